"""The scenes that each split of Raster Vision's `chip` and `predict` does.

Raster Vision cuts each of the lists of scenes into as many groups of equal size as there are splits
(`DatasetConfig.get_split_config`). So if there is a split for each scene of the longest list, split
I does the scenes at position I of the lists, and only then does a split say which scenes it does.
These scenes are its item.

Light on purpose: every target that writes chips imports it.
"""

from __future__ import annotations

from rvrun.item_list import ItemList, label_of, make_list

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

#: The lists of scenes that the splits of a command share out.
LISTS: Mapping[str, tuple[str, ...]] = {
    "chip": ("train_scenes", "validation_scenes", "test_scenes"),
    "predict": ("validation_scenes", "test_scenes"),
}
#: What the items are called: all scenes of a dataset, as Raster Vision calls them.
FIELD = "dataset.all_scenes"


def shares(values: Mapping[str, Any], command: str) -> list[dict[str, Any]]:
    """Return the scenes of each split of a command, if there is a split for each; else none.

    - `values`: the saved config.
    """
    dataset = values.get("dataset")
    if command not in LISTS or not isinstance(dataset, dict):
        return []
    fields = {name: dataset.get(name) for name in LISTS[command]}
    lists = {name: scenes for name, scenes in fields.items() if isinstance(scenes, list)}
    number = max(map(len, lists.values()), default=0)
    return [
        {name: scenes[index] for name, scenes in lists.items() if index < len(scenes)}
        for index in range(number)
    ]


def item_list(values: Mapping[str, Any], command: str) -> ItemList:
    """Return the items of a command, named by their scenes: `denver, boulder`."""
    items = shares(values, command)
    labels = [", ".join(dict.fromkeys(map(label_of, item.values()))) for item in items]
    return ItemList(make_list(items).digests, labels)


def as_config(values: Mapping[str, Any], command: str) -> dict[str, Any]:
    """Return the items of a command as a config that has them at `FIELD`."""
    parent, _, name = FIELD.partition(".")
    return {parent: {name: shares(values, command)}}
