"""Archives in place: S3 buckets, folders, and lists of keys. Objects are read, never copied, moved or written.

base        what every kind can do: list keys after a key, fetch an object with its version
source      parse an address and check whether it may be read
ignoring    what a job leaves out of them: junk (``ignored_by_default.txt``), and what people's patterns say
tars        the members of tar files in either;  tar_headers, tar_listing, tar_names  which they are, and in which order
pages       pages of files in any: their keys, and which file to read for them
s3, folder  the kinds;  manifest  a file that names objects (text, CSV, JSON, Parquet)
written_keys       the keys of a list as the store writes them
parallel_listing   list several ranges of a bucket at once;  cutting  where another worker can begin
"""
