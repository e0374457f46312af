"""Facts about images, in PostgreSQL.

    archives, images    where images are, and their version in the last listing
    contents            which images have the same bytes: ``same_bytes`` what they take over, ``copies`` their groups,
                        ``moves`` files that were moved, ``replaced`` other pictures under known names, ``merged`` where
                        links lead, ``missing`` what was ``said`` of pictures that are gone
    near_copies         groups of pictures that are nearly the same; ``near_views`` for people, ``nearness`` the limits
    records, vectors    results that a worker writes for an image; ``features`` stored for later tags
    generations         what made a result; ``vocabularies`` and ``tags`` are its names and thresholds,
                        ``partitions`` where its rows are, ``serving`` which one searches use
    readings            the text in images, ``line_corrections`` of it by people, and its dictionary ``read_words``
    regions             where tags are in images (``region_views``, ``masks``), ``region_corrections`` by people,
                        ``region_lists`` what search counts of them, ``region_search`` how it reads that
    looks               vectors of images beside those of recognition, in ``spaces``
    metadata            what the files of images say, ``metadata_search`` how search reads that
    corrections         people's changes to an image's tags;  policies  which tags count, and which are things
    erasures            deletions, which must be carried out everywhere
    withdrawals         deletions that are ended before they have erased everything
    lookup              one image with everything known about it, found by id, key or URI
    projection          the rows of a generation as the index reads them

Everything runs in the caller's transaction (``storage.database.unit_of_work``).
"""
