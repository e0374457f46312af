"""Facts about the published checkpoints."""

from __future__ import annotations

CHECKPOINTS = {
    "ram": "ram_swin_large_14m",
    "ram_plus": "ram_plus_swin_large_14m",
    "tag2text": "tag2text_swin_14m",
}
# One "a photo of a …" and five prompts to a language model with ten answers each (arXiv:2310.15200, section 3.4).
DESCRIPTIONS = 51
