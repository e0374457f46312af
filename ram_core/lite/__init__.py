"""The small model. Its weights come in Python packages, so there are no files to fetch.

network             EfficientNet-Lite2 with its weights;  layers  its parts
model               its tags and vectors;  imagenet  its 1,000 classes
zero_shot           the same weights for other tags
cores               batches on several cores;  fused  layers as CPUs run them best
text_encoder        MiniLM in numpy, for search texts;  shipped_embeddings  those of the class names
"""
