import pytest

from ccnet import InputError
from ccnet.data import classes
from ccnet.data.labels import IGNORE


def read(tmp_path, text, name="classes.csv"):
    path = tmp_path / name
    path.write_bytes(text.encode())
    return classes.read(path)


def test_class_names_are_read_one_a_line(tmp_path):
    found = read(tmp_path, "\ufeffroad\n traffic light \n\n天空\n", "classes.txt")
    assert found == classes.Classes(("road", "traffic light", "天空"), ((0, 0, 0), (128, 0, 0), (0, 128, 0)))


@pytest.mark.parametrize("separator", [",", ";", ", "])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_colours_and_values_are_read_however_spreadsheets_write_them(tmp_path, separator, end):
    rows = ["\ufeffName,Red,Green,Blue,Value", "wall,255,0,0,17", "door,0,85,255,300", "door,0,170,255,65535",
            "ignore,0,0,0,", "", "ignore,,,,0"]  # fmt: skip
    found = read(tmp_path, end.join(rows).replace(",", separator))
    assert found.names == ("wall", "door")
    assert found.palette == ((255, 0, 0), (0, 85, 255))
    assert found.colours == {(255, 0, 0): 0, (0, 85, 255): 1, (0, 170, 255): 1, (0, 0, 0): IGNORE}
    assert found.values == {17: 0, 300: 1, 65535: 1, 0: IGNORE, 255: IGNORE}


def test_values_may_share_a_class_and_its_colour(tmp_path):
    found = read(tmp_path, "name,red,green,blue,value\ncar,1,2,3,26\ncar,1,2,3,27\nignore,,,,0\n")
    assert (found.names, found.palette, found.values) == (
        ("car",),
        ((1, 2, 3),),
        {26: 0, 27: 0, 0: IGNORE, 255: IGNORE},
    )


def test_names_may_have_any_signs_of_a_script(tmp_path):
    assert read(tmp_path, "می\u200cخواهم\n全角\u3000空白\n", "classes.txt").names == ("می\u200cخواهم", "全角\u3000空白")


def test_255_is_a_class_where_it_is_listed(tmp_path):
    assert read(tmp_path, "name,value\nno,0\nyes,255\n").values == {0: 0, 255: 1}


def test_a_class_without_a_colour_has_one_that_is_not_listed(tmp_path):
    found = read(tmp_path, "name,red,green,blue\na,,,\nb,0,0,0\nc,,,\n")
    assert found.palette == ((128, 0, 0), (0, 0, 0), (0, 128, 0))
    assert found.values is None


def test_without_values_rows_count_only_if_each_is_a_class_of_its_own(tmp_path):
    assert read(tmp_path, "name\na\nb\n").values is None
    assert read(tmp_path, "name\na\nb\na\n").values == {}
    assert read(tmp_path, "name,red,green,blue\nIgnore,0,0,0\na,1,1,1\n").values == {}


BAD = {
    "name,red,green,blue\na,1,2,3\nb,1,2,3\n": "line 3: 'b' has the colour 1 2 3 of 'a' (line 2)",
    "name,value\na,1\nb,1\n": "line 3: 'b' has the value 1 of 'a' (line 2)",
    "name,value\na,1\nignore,1\n": "line 3: 'ignore' has the value 1 of 'a' (line 2)",
    "name,r,g,b\na,1,2,3\n": "unknown column 'r': the first line names the columns: name, red, green, blue, value",
    "name,red\na,1\n": "no column 'green'",
    "red,green,blue\n1,2,3\n": "no column 'name'",
    "name,name\na,a\n": "one twice",
    "name,value\na,-1\n": "line 2: the value '-1' is not a whole number from 0 to 65535",
    "name,value\na,65536\n": "line 2: the value '65536' is not a whole number from 0 to 65535",
    "name,red,green,blue\na,1,2,256\n": "line 2: the colour '256' is not a whole number from 0 to 255",
    "name,red,green,blue\na,1,,3\n": "line 2: the colour '' is not a whole number from 0 to 255",
    "name,value\na,1,2\n": "line 2: not as many cells as the first line has columns",
    "name,red,green,blue\na,1\n": "line 2: not as many cells as the first line has columns",
    "name,value\n,1\n": "line 2: a class without a name",
    "name,value\nignore,1\n": "holds 0 class names; 1 to 255 are needed",
    "name\na\tb\n": "'a\\tb' is no name of a class",
    "name\n" + "x" * 200000: "not readable as CSV",
    "": "no column 'name'",
    f"name,value\na,{'9' * 5000}\n": "is not a whole number from 0 to 65535",
    f"name,value\n{'a' * 200_000},1\n": "not readable as CSV (field larger than field limit",
    "name\n" + "\n".join(f"class {number}" for number in range(300)): "holds 300 class names; 1 to 255 are needed",
    'name,value\n"two\nlines",1\n': r"'two\nlines' is no name of a class: it has signs that cannot be printed",
    "name,red,green,blue,\na,1,2,3,\n": "unknown column ''",
}


@pytest.mark.parametrize("text", BAD)
def test_what_is_wrong_in_a_table_is_said_in_one_line(tmp_path, text):
    with pytest.raises(InputError) as caught:
        read(tmp_path, text)
    assert str(caught.value).startswith(f"{tmp_path}/classes.csv")
    assert BAD[text] in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "holds 0 class names"),
        ("a\nb\na\n", "a class twice: a"),
        ("\n".join(map(str, range(300))), "holds 256"),
        ("r\0o\0a\0d\0", r"'r\\x00o.* is no name of a class: it has signs that cannot be printed"),
    ],
)
def test_bad_lists_of_names_are_refused_by_name(tmp_path, text, reason):
    with pytest.raises(InputError, match=rf"classes\.txt: .*{reason}"):
        read(tmp_path, text, "classes.txt")


def test_columns_without_entries_list_nothing(tmp_path):
    found = read(tmp_path, "name,red,green,blue,value\na,,,,\nb,,,,\n")
    assert (found.values, found.colours) == (None, None)
    assert found == classes.named("ab")


def test_a_missing_class_file_is_named(tmp_path):
    with pytest.raises(InputError, match=r"nowhere\.txt"):
        classes.read(tmp_path / "nowhere.txt")


def test_a_table_is_preferred_to_a_list(tmp_path):
    assert classes.found(tmp_path) == tmp_path / "classes.txt"
    (tmp_path / "classes.csv").touch()
    assert classes.found(tmp_path) == tmp_path / "classes.csv"
