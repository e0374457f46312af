"""The use cases. The command line, the HTTP API and the page call these and nothing below them.

Each client handles one subject: ``jobs``, ``search``, ``images``, ``index``, ``archives``, ``generations``,
``vocabularies``, ``corrections``, ``metadata``, ``policies``, ``erasures``. ``erasing`` carries deletions out.
``export`` writes search results to files, also for other programs. ``shadow`` keeps a second index, ``shadow_comparer``
asks both, ``shadow_tally`` counts. A method is one transaction, unless it says otherwise. Any thread may call it.
``ramq.wiring`` creates the clients.
"""
