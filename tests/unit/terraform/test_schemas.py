"""The check of resources against a provider's schema finds what is wrong; the schemas themselves: integration tests."""

from tests.unit.terraform.schemas import Argument, problems


def test_the_check_finds_what_is_wrong() -> None:
    known = {
        "Top": {"name": Argument(True, ""), "disk": Argument(False, "Disk")},
        "Disk": {"size": Argument(True, "")},
    }
    body = {"nmae": "x", "disk": [{"__is_block__": True, "sise": 1}], "lifecycle": [{}], "__is_block__": True}
    assert sorted(problems(body, "Top", known, "t")) == [
        "t.disk: no argument sise",
        "t.disk: size is required",
        "t: name is required",
        "t: no argument nmae",
    ]
