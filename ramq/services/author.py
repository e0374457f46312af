"""Whose name is noted with what people say and do.

The web notes the name of the token's user (``ramq.web.deps.caller_of``), the command line that of the user of the
operating system (``ramq.wiring.Services.author``).
"""

from storage.ledger import turns

LOCAL = turns.LOCAL
"""The author of what came through the web while no tokens were needed."""
