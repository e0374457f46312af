"""From the bytes of a file to a picture as people see it. ``ram_core.pictures`` is the door.

* ``formats``: what a file is, by its content, and why it cannot be read.
* ``jpeg``, ``tiff``: headers of the two formats, as far as that needs them.
* ``raw``: the largest picture inside a file of a camera's raw data.
* ``pages``: which files have pages, and one page of a TIFF; ``pdf``: one page of a PDF.
* ``modern``: HEIC and JPEG XL, by packages beside Pillow.
* ``cut``: files that are cut short, as far as they go.
* ``frames``: the first frame that shows something.
* ``depth``: samples of more than 8 bits.
* ``colours``: colour profiles and transparency.
* ``code_points``: colours that a file declares by numbers.

All bytes are untrusted. Sizes are known from the header before a pixel is decoded.
"""
