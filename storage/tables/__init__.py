"""The tables. PostgreSQL is the truth about every key, job, result and failure. All else can be rebuilt from it.

``docs/ARCHITECTURE.md`` gives sizes and reasons: one row per image with its tags in an array; durable progress per
shard in one byte per image; rows only for failures; vectors apart from records, so that tag queries do not read them.
"""

from storage.tables.base import CORNER_SCALE as CORNER_SCALE
from storage.tables.base import HASH_BYTES as HASH_BYTES
from storage.tables.base import PERSON_UNITS as PERSON_UNITS
from storage.tables.base import PRECISIONS as PRECISIONS
from storage.tables.base import RECOGNITION as RECOGNITION
from storage.tables.base import SCORE_SCALE as SCORE_SCALE
from storage.tables.base import XID8 as XID8
from storage.tables.base import Base as Base
from storage.tables.crops import Crop as Crop
from storage.tables.crops import Cropping as Cropping
from storage.tables.datasets import Dataset as Dataset
from storage.tables.datasets import DatasetItem as DatasetItem
from storage.tables.datasets import DatasetLabel as DatasetLabel
from storage.tables.datasets import DatasetReview as DatasetReview
from storage.tables.datasets import DatasetTask as DatasetTask
from storage.tables.datasets import DatasetVersion as DatasetVersion
from storage.tables.generation import Generation as Generation
from storage.tables.generation import Tag as Tag
from storage.tables.generation import Vocabulary as Vocabulary
from storage.tables.ledger import Archive as Archive
from storage.tables.ledger import Content as Content
from storage.tables.ledger import Failure as Failure
from storage.tables.ledger import Ignored as Ignored
from storage.tables.ledger import Image as Image
from storage.tables.ledger import Job as Job
from storage.tables.ledger import JobRequest as JobRequest
from storage.tables.ledger import Naming as Naming
from storage.tables.ledger import Shard as Shard
from storage.tables.ledger import Skip as Skip
from storage.tables.ledger import WebhookDelivery as WebhookDelivery
from storage.tables.ledger import Worker as Worker
from storage.tables.looks import Look as Look
from storage.tables.metadata import Device as Device
from storage.tables.metadata import Metadata as Metadata
from storage.tables.regions import AREA_SCALE as AREA_SCALE
from storage.tables.regions import Localization as Localization
from storage.tables.regions import LocatedImage as LocatedImage
from storage.tables.regions import RegionCorrection as RegionCorrection
from storage.tables.regions import RegionList as RegionList
from storage.tables.results import Correction as Correction
from storage.tables.results import Deletion as Deletion
from storage.tables.results import DeletionPart as DeletionPart
from storage.tables.results import Erasure as Erasure
from storage.tables.results import Feature as Feature
from storage.tables.results import FeatureFile as FeatureFile
from storage.tables.results import IndexState as IndexState
from storage.tables.results import Record as Record
from storage.tables.results import TagPolicy as TagPolicy
from storage.tables.results import Vector as Vector
from storage.tables.teaching import Head as Head
from storage.tables.teaching import Teaching as Teaching
from storage.tables.text import LineCorrection as LineCorrection
from storage.tables.text import Reading as Reading
from storage.tables.text import ReadingIndex as ReadingIndex
from storage.tables.text import ReadWord as ReadWord
from storage.tables.watches import JobKey as JobKey
from storage.tables.watches import Watch as Watch
from storage.tables.watches import WatchEvent as WatchEvent
