"""Makes a torchvision wheel that was built for CUDA importable beside a torch without it.

Its compiled operators cannot be loaded, so ``import torchvision`` fails where it registers their fakes. With their
schemas declared first, the parts in Python import; the operators themselves (nms, roi_align …) stay unavailable, and a
text benchmark needs none.
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch

BOX = "Tensor input, Tensor rois, float spatial_scale, SymInt pooled_height, SymInt pooled_width"
BACK = (
    "Tensor grad, Tensor rois, {} float spatial_scale, SymInt pooled_height, SymInt pooled_width, SymInt batch_size, "
)
BACK += "SymInt channels, SymInt height, SymInt width"
CONV = "Tensor input, Tensor weight, Tensor offset, Tensor mask, Tensor bias, "
CONV += ", ".join(f"SymInt {name}_{side}" for name in ("stride", "pad", "dilation") for side in "hw")
CONV += ", SymInt groups, SymInt offset_groups, bool use_mask"
SCHEMAS = (
    "nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    f"roi_align({BOX}, int sampling_ratio, bool aligned) -> Tensor",
    f"roi_pool({BOX}) -> (Tensor, Tensor)",
    f"ps_roi_align({BOX}, int sampling_ratio) -> (Tensor, Tensor)",
    f"ps_roi_pool({BOX}) -> (Tensor, Tensor)",
    f"deform_conv2d({CONV}) -> Tensor",
    f"_roi_align_backward({BACK.format('')}, int sampling_ratio, bool aligned) -> Tensor",
    f"_roi_pool_backward({BACK.format('Tensor argmax,')}) -> Tensor",
    f"_ps_roi_align_backward({BACK.format('Tensor channel_mapping,')}, int sampling_ratio) -> Tensor",
    f"_ps_roi_pool_backward({BACK.format('Tensor channel_mapping,')}) -> Tensor",
    f"_deform_conv2d_backward(Tensor grad, {CONV}) -> (Tensor, Tensor, Tensor, Tensor, Tensor)",
)

aside = Path(sys.prefix) / "torchvision"  # where the environment put the wheel
if aside.is_dir():
    sys.path.insert(0, str(aside))
library = torch.library.Library("torchvision", "DEF")
for schema in SCHEMAS:
    library.define(schema)
