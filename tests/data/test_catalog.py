import pytest

from ccnet import InputError
from ccnet.data import catalog
from ccnet.data.catalog import DATASETS
from ccnet.data.labels import IGNORE

SIZES = {
    "camvid": 11, "ade20k": 150, "voc2012": 21, "pascal_context": 59, "coco_stuff": 171, "cityscapes": 19, "lip": 20,
}  # fmt: skip


@pytest.mark.parametrize(("name", "classes"), SIZES.items())
def test_every_set_has_its_number_of_distinct_classes(name, classes):
    assert len(DATASETS[name].class_names) == len(set(DATASETS[name].class_names)) == classes


@pytest.mark.parametrize("entry", DATASETS.values(), ids=list(DATASETS))
def test_palettes_match_the_classes_and_are_colours(entry):
    assert len(entry.palette) == len(entry.class_names)
    assert all(len(colour) == 3 and all(0 <= level <= 255 for level in colour) for colour in entry.palette)


@pytest.mark.parametrize("entry", DATASETS.values(), ids=list(DATASETS))
def test_label_tables_reach_every_class_once_and_else_only_ignore(entry):
    if entry.label_table is not None:
        reached = [train_id for train_id in entry.label_table.values() if train_id != IGNORE]
        assert sorted(reached) == list(range(len(entry.class_names)))


@pytest.mark.parametrize(
    ("name", "raw", "class_name"),
    [
        ("ade20k", 1, "wall"),
        ("ade20k", 13, "person"),
        ("ade20k", 150, "flag"),
        ("cityscapes", 7, "road"),
        ("cityscapes", 24, "person"),
        ("cityscapes", 33, "bicycle"),
        ("camvid", 8, "Car"),
        ("pascal_context", 2, "aeroplane"),
        ("pascal_context", 284, "person"),
        ("pascal_context", 397, "table"),
        ("pascal_context", 458, "wood"),
        ("coco_stuff", 0, "person"),
        ("coco_stuff", 12, "stop sign"),
        ("coco_stuff", 91, "banner"),
        ("coco_stuff", 181, "wood"),
        ("lip", 5, "UpperClothes"),
        ("lip", 14, "Left-arm"),
        ("lip", 19, "Right-shoe"),
    ],
)
def test_raw_values_mean_what_the_publishers_say(name, raw, class_name):
    entry = DATASETS[name]
    assert entry.class_names[entry.label_table[raw]] == class_name


@pytest.mark.parametrize(
    ("name", "raw"),
    [
        ("ade20k", 0),
        ("camvid", 11),
        ("cityscapes", 0),
        ("cityscapes", 29),
        ("pascal_context", 0),
        ("pascal_context", 255),
        ("pascal_context", 431),  # "unknown"
        ("pascal_context", 459),
        ("coco_stuff", 255),
    ],
)
def test_void_values_are_ignored(name, raw):
    assert DATASETS[name].label_table[raw] == IGNORE


def test_labels_of_coco_that_have_no_annotations_are_not_allowed():
    """Street sign, hat, shoe, eye glasses, plate, mirror, window, desk, door, blender, hair brush."""
    left_out = {11, 25, 28, 29, 44, 65, 67, 68, 70, 82, 90}
    assert set(range(256)) - DATASETS["coco_stuff"].label_table.keys() == left_out | set(range(182, 255))


def test_an_unknown_dataset_is_answered_with_the_known_ones():
    with pytest.raises(InputError, match=f"'camvit'.*: choose one of {', '.join(DATASETS)}"):
        catalog.lookup("camvit")
