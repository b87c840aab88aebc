"""Judging a challenger against the champion: the same latents, labels and held-out data for both (docs/gate.md).

`options` and `gate` are plain values and arithmetic; `figures` and `compare` need torch.
"""
