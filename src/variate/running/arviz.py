"""Draws as ArviZ has them, for its files and its plots."""

from typing import Any

from variate.checks import describe

from .measures import storable


def groups_of(draws: Any) -> dict[str, Any]:
    """Arrays by ArviZ's names of groups and of what is told of steps."""
    groups = {"posterior": storable(draws.values), "sample_stats": draws.stats()}
    if draws.warmup is not None:
        groups |= {"warmup_posterior": storable(draws.warmup.values), "warmup_sample_stats": draws.warmup.stats()}
    return groups


def tree_of(draws: Any) -> Any:
    """xarray's `DataTree`, with the attributes of the run."""
    import arviz_base  # here, for it takes seconds to import

    tree = arviz_base.from_dict(groups_of(draws), save_warmup=True)
    attributes = {"inference_library": "variate", "kernel": draws.kernel, "ended": draws.ended or ""}
    attributes |= {"walkers": draws.walkers} if draws.walkers > 1 else {}
    for group in tree.children.values():
        group.attrs.update(attributes | {f"seconds_{name}": spent for name, spent in draws.seconds.items()})
    return tree


def plotted(draws: Any, picture: Any, options: dict[str, Any]) -> Any:
    """What a function of ArviZ's makes of draws."""
    if picture is None:
        try:
            import arviz
        except ImportError as error:
            raise ImportError("draws.plot needs ArviZ and matplotlib: pip install 'variate[arviz]'") from error
        picture = arviz.plot_trace
    if not callable(picture):
        raise TypeError(f"picture must be a function of ArviZ's, arviz.plot_forest say, got {describe(picture)}")
    theirs = str(getattr(picture, "__module__", "")).startswith("arviz.")
    return picture((_before_trees if theirs else tree_of)(draws), **options)


def _before_trees(draws: Any) -> Any:
    """What ArviZ's plots took before version 1, and the tree from then on."""
    import arviz

    if not hasattr(arviz, "InferenceData"):
        return tree_of(draws)
    return arviz.from_dict(**groups_of(draws), save_warmup=True)
