import pytest

from ccnet import InputError
from ccnet.data import catalog
from ccnet.data.catalog import DATASETS
from ccnet.data.labels import IGNORE


@pytest.mark.parametrize(("name", "classes"), [("camvid", 11), ("ade20k", 150), ("voc2012", 21), ("cityscapes", 19)])
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
    ],
)
def test_raw_values_mean_what_the_publishers_say(name, raw, class_name):
    entry = DATASETS[name]
    assert entry.class_names[entry.label_table[raw]] == class_name


@pytest.mark.parametrize(("name", "raw"), [("ade20k", 0), ("camvid", 11), ("cityscapes", 0), ("cityscapes", 29)])
def test_void_values_are_ignored(name, raw):
    assert DATASETS[name].label_table[raw] == IGNORE


def test_an_unknown_dataset_is_answered_with_the_known_ones():
    with pytest.raises(InputError, match=r"'camvit'.*streets, camvid, ade20k, voc2012, cityscapes, folder"):
        catalog.lookup("camvit")
