"""What is known of images, in PostgreSQL.

    archives, images    where images are, and the version that was last listed
    records, vectors    what a worker writes for an image; ``features`` for what it keeps for later tags
    generations         what made a result; ``vocabularies`` and ``tags`` are its names and thresholds,
                        ``partitions`` where its rows are, ``serving`` which one searches use
    corrections         what people say of an image's tags;  policies  which tags count in which archive
    erasures            what was deleted and must be forgotten everywhere
    lookup              one image with all that is known of it, found by number, key or URI
    projection          the rows of a generation as the index reads them

Everything happens in the caller's transaction (``storage.database.unit_of_work``).
"""
