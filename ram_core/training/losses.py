"""The losses, as formulas over logits and targets."""

from __future__ import annotations

import torch
from torch.nn import functional

# Exponents and margin of the loss over tags, and the exponent of the alignment (official code). The paper of the loss
# uses 4, 1 and 0.05 (arXiv:2009.14119, section 3.3).
TAG_GAMMA_NEG = 7
ALIGN_GAMMA_NEG = 4
MARGIN = 0.05
LABEL_SMOOTHING = 0.1  # of the captions' words; official ``BertLMHeadModel``
_LOG_FLOOR = 1e-8
_HALF = (torch.float16, torch.bfloat16)


def asymmetric_loss(
    logits: torch.Tensor, targets: torch.Tensor, gamma_neg: float = 7, gamma_pos: float = 0, clip: float = MARGIN
) -> torch.Tensor:
    """Return the asymmetric loss (arXiv:2009.14119), summed over all elements.

    A negative whose probability is below ``clip`` costs nothing. Other errors cost ``(1 - p) ** gamma`` times their
    cross entropy, where p is the probability of the truth. As officially, that factor has no gradient.

    Args:
        logits: any shape; 16-bit ones are computed in float32.
        targets: the same shape, 1 for what is true and 0 for what is not.
        gamma_neg: exponent for what is not true.
        gamma_pos: exponent for what is true.
        clip: margin of probability.

    Returns:
        () the loss.
    """
    logits = logits.float() if logits.dtype in _HALF else logits
    positive = targets.to(logits.dtype)
    yes = logits.sigmoid()
    no = (1 - yes + clip).clamp(max=1)
    log_truth = positive * yes.clamp(min=_LOG_FLOOR).log() + (1 - positive) * no.clamp(min=_LOG_FLOOR).log()
    with torch.no_grad():
        truth = yes * positive + no * (1 - positive)
        focus = (1 - truth) ** (gamma_pos * positive + gamma_neg * (1 - positive))
    return -(log_truth * focus).sum()


def caption_loss(logits: torch.Tensor, words: torch.Tensor) -> torch.Tensor:
    """Return the mean cross entropy of next words, with label smoothing; 0 if there are none.

    Args:
        logits: (words, V) float32.
        words: (words,) token ids.
    """
    total = functional.cross_entropy(logits, words, label_smoothing=LABEL_SMOOTHING, reduction="sum")
    return total / max(1, len(words))


def balanced(tag: torch.Tensor, caption: torch.Tensor) -> torch.Tensor:
    """Return the loss over tags, scaled to the size of the loss over captions. The scale has no gradient.

    Where no caption has a word to learn, so that there is nothing to compare with, the result is 1 in size.
    """
    size = caption.detach()
    size = torch.where(size > 0, size, torch.ones_like(size))
    return tag * (size / tag.detach().clamp(min=torch.finfo(tag.dtype).tiny))
