"""Stages of jobs beside recognition, each in a module. A new one needs its module, a line here, and its table.

The pipeline gives each stage the pictures that it asks for and stores what it returns. Leases, failures, retries and
counts are the same for all stages. The table is named in ``storage.results.partitions``, the model in
``workers.messages``.
"""

from workers.stages import crops, locate, look, metadata, text
from workers.stages.base import StageKind as StageKind
from workers.stages.base import StageModel as StageModel
from workers.stages.base import StageOptions as StageOptions

STAGES = {kind.name: kind for kind in (text.KIND, locate.KIND, crops.KIND, *look.KINDS, metadata.KIND)}
