"""JPEGs to pixels of a network on the card, beside Pillow on the processor's cores.

Pillow as workers use it (``ram_core.pictures``: a draft, then the official resizing), in threads. On the card:
torchvision's nvJPEG, and nvImageCodec where it is installed, each decoding at full size in batches and resizing there.
What cannot run here is said in the file. The mean difference of pixels is that from Pillow's full decode.

    python -m benchmarks.gpu.bench_decode --device cuda
"""

from __future__ import annotations

import importlib
import os
import time
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from PIL import Image
from torch.nn import functional

from benchmarks.gpu.bench_pipeline import picture
from benchmarks.report import begin, options, save
from ram_core.pictures import decode_for_all
from ram_core.transforms import SquashTransform

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

PREPROCESSING = SquashTransform()
SIDE = PREPROCESSING.size
SIZES = {"1 Mpx": (1152, 864), "2 Mpx": (1632, 1224), "12 Mpx": (4000, 3000)}
DISTINCT = 8


def pillow(body: bytes) -> NDArray[np.uint8]:
    """Return (SIDE, SIDE, 3) pixels as workers make them."""
    return decode_for_all(body, [PREPROCESSING])[0].pixels


def resized(pictures: Sequence[torch.Tensor]) -> torch.Tensor:
    """Return (B, SIDE, SIDE, 3) uint8 of (3, H, W) pictures, on their device, as Pillow resizes up to rounding."""
    rows = [
        functional.interpolate(each[None].float(), (SIDE, SIDE), mode="bilinear", antialias=True) for each in pictures
    ]
    return torch.cat(rows).round().clamp(0, 255).to(torch.uint8).permute(0, 2, 3, 1)


def with_torchvision(device: torch.device) -> Callable[[Sequence[bytes]], torch.Tensor]:
    """Return the decoder of torchvision, on the device."""
    from torchvision.io import (  # type: ignore[import-not-found,import-untyped]  # noqa: PLC0415  (may be missing)
        ImageReadMode,
        decode_jpeg,
    )

    def decode(bodies: Sequence[bytes]) -> torch.Tensor:
        given = [torch.frombuffer(bytearray(body), dtype=torch.uint8) for body in bodies]
        return resized(decode_jpeg(given, ImageReadMode.RGB, device=str(device)))

    return decode


def with_nvimagecodec(device: torch.device) -> Callable[[Sequence[bytes]], torch.Tensor]:
    """Return the decoder of nvImageCodec."""
    codec = importlib.import_module("nvidia.nvimgcodec")
    decoder = codec.Decoder(device_id=device.index or 0)

    def decode(bodies: Sequence[bytes]) -> torch.Tensor:
        found = decoder.decode(list(bodies))
        return resized([torch.utils.dlpack.from_dlpack(each).permute(2, 0, 1) for each in found])

    return decode


def rate(work: Callable[[], object], images: int, device: torch.device, seconds: float) -> float:
    """Return images per second of repeated work, after one call."""
    work()
    began, done = time.perf_counter(), 0
    while time.perf_counter() - began < seconds:
        work()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        done += images
    return round(done / (time.perf_counter() - began), 1)


def main() -> None:
    """Measure, write."""
    parser = options(__doc__)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--seconds", type=float, default=2.0)
    parser.add_argument("--sizes", nargs="+", choices=SIZES, default=list(SIZES))
    chosen = parser.parse_args()
    device = torch.device(chosen.device)
    on_gpu = device.type == "cuda"
    report = begin(torch=torch.__version__, device=torch.cuda.get_device_name(device) if on_gpu else "cpu")
    report |= {"threads": os.cpu_count(), "batch": chosen.batch, "cases": []}
    ways: dict[str, Any] = {"torchvision": with_torchvision, "nvimagecodec": with_nvimagecodec}
    with ThreadPoolExecutor(os.cpu_count()) as threads:
        for size in chosen.sizes:
            distinct = [picture(number, SIZES[size]) for number in range(DISTINCT)]
            bodies = [distinct[number % DISTINCT] for number in range(chosen.batch)]
            exact = np.stack([PREPROCESSING(Image.open(BytesIO(body))) for body in distinct]).astype(np.int16)
            case: dict[str, Any] = {"size": size, "bytes": len(distinct[0])}
            drafted = np.stack([pillow(body) for body in distinct])
            case["pillow_difference"] = round(float(np.abs(drafted - exact).mean()), 4)
            case["pillow_images_per_second"] = rate(
                lambda: list(threads.map(pillow, bodies)), len(bodies), torch.device("cpu"), chosen.seconds  # noqa: B023
            )  # fmt: skip
            for name, way in ways.items():
                try:
                    decode = way(device)
                    pixels = decode(distinct).cpu().numpy()
                    case[f"{name}_images_per_second"] = rate(
                        lambda: decode(bodies), len(bodies), device, chosen.seconds  # noqa: B023
                    )  # fmt: skip
                except Exception as error:  # noqa: BLE001  (said in the file: a benchmark of what may be missing)
                    case[name] = f"does not run here: {type(error).__name__}: {error}"
                    continue
                case[f"{name}_difference"] = round(float(np.abs(pixels - exact).mean()), 4)
            report["cases"].append(case)
            save(chosen, "decode-gpu", report)
            print(case, flush=True)
    print(save(chosen, "decode-gpu", report))


if __name__ == "__main__":
    main()
