"""The poly learning rate schedule with warm-up."""


def poly(step: int, *, steps: int, base: float, power: float, warmup: int = 0, final: float = 0.0) -> float:
    """Learning rate of `step` (0 … steps - 1): linear warm-up to `base` over `warmup` steps, then
    (base - final) · (1 - progress)^power + final (Chen et al., arXiv:1706.05587, section 4.1).
    """
    if step < warmup:
        return base * (step + 1) / (warmup + 1)
    progress = (step - warmup) / max(steps - warmup, 1)
    return (base - final) * (1 - progress) ** power + final
