from ccnet.suggestion import suggestion

KNOWN = ["steps", "power", "optimizer.learning_rate"]


def test_a_misspelt_key_is_recognised():
    assert suggestion("optimizer.learning_rat", KNOWN) == "unknown key; did you mean 'optimizer.learning_rate'?"


def test_all_are_named_where_none_is_like_it():
    assert suggestion("xyz", KNOWN) == "unknown key; known here: optimizer.learning_rate, power, steps"
