"""The use cases. The command line, the HTTP API and the page call these and nothing below them.

Each client is one subject: ``jobs``, ``search``, ``archives``, ``generations``, ``vocabularies``, ``corrections``,
``policies``, ``erasures``, ``export``. A method is one transaction; any thread may call it. ``ramq.wiring`` makes them.
"""
