"""Archives where they are: S3 buckets, folders, and lists of keys. Objects are read, never copied, moved or written.

base        what every kind can do: list keys after a key, fetch an object if it is still the version that was listed
source      from an address to the kind it belongs to, and whether it may be read
s3, folder  the kinds;  manifest  a file that names objects (text, CSV, JSON, Parquet)
ahead       listing a bucket in several places at once
"""
