"""The tables. Postgres is the truth about every key, job, result and failure; everything else can be rebuilt from it.

Sizes and choices are reasoned in ``docs/ARCHITECTURE.md``: one row per image with its tags in an array, durable
progress per shard in one byte per image, failures sparse, vectors beside the records so that tag queries do not read
them.
"""

from storage.models.base import PERSON_UNITS as PERSON_UNITS
from storage.models.base import SCORE_SCALE as SCORE_SCALE
from storage.models.base import XID8 as XID8
from storage.models.base import Base as Base
from storage.models.generation import Generation as Generation
from storage.models.generation import Tag as Tag
from storage.models.generation import Vocabulary as Vocabulary
from storage.models.ledger import Archive as Archive
from storage.models.ledger import Failure as Failure
from storage.models.ledger import Image as Image
from storage.models.ledger import Job as Job
from storage.models.ledger import JobRequest as JobRequest
from storage.models.ledger import Naming as Naming
from storage.models.ledger import Notice as Notice
from storage.models.ledger import Shard as Shard
from storage.models.ledger import Skip as Skip
from storage.models.ledger import Worker as Worker
from storage.models.results import Correction as Correction
from storage.models.results import Deletion as Deletion
from storage.models.results import DeletionPart as DeletionPart
from storage.models.results import Erasure as Erasure
from storage.models.results import Feature as Feature
from storage.models.results import FeatureFile as FeatureFile
from storage.models.results import IndexState as IndexState
from storage.models.results import Record as Record
from storage.models.results import TagPolicy as TagPolicy
from storage.models.results import Vector as Vector
