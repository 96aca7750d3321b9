import pytest
from pydantic import TypeAdapter, ValidationError

from ccnet.fields import LONGEST, about, explain, frozen


@frozen
class Thing:
    size: int = about("its size", ge=1)


@pytest.mark.parametrize(
    ("text", "line"),
    [('{"size": 0}', "size: 0: input should be greater than or equal to 1"),
     ('{"size": "2"}', 'size: "2": input should be a valid integer')],
)  # fmt: skip
def test_an_error_is_one_line_of_field_value_and_what_is_allowed(text, line):
    with pytest.raises(ValidationError) as error:
        TypeAdapter(Thing).validate_json(text)
    assert explain(error.value.errors()[0]) == line


def test_a_long_value_is_cut():
    with pytest.raises(ValidationError) as error:
        TypeAdapter(Thing).validate_json(f'{{"size": "{"x" * 500}"}}')
    assert len(explain(error.value.errors()[0])) < LONGEST + 60
