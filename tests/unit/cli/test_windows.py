"""Recurring windows and tokens on the command line."""

from tests.unit.cli.test_commands import valid

WINDOW = ("reservation", "window")
EOD = ("eod", "--pool", "laptop", "--tenant", "red", "--cpu", "1", "--from", "22:00", "--to", "02:00")


def test_a_window_is_added_listed_and_removed(preprov):
    preprov("init")
    made = valid(preprov(*WINDOW, "add", *EOD, "--days", "mon,fri", "--lead", "10m", "-o", "json").json)["window"]
    assert (made["start"], made["end"], made["days"], made["lead_s"]) == ("22:00", "02:00", ["mon", "fri"], 600)
    assert valid(preprov(*WINDOW, "list", "-o", "json").json)["windows"] == [made]
    assert "22:00 to 02:00" in preprov(*WINDOW, "list").out
    assert preprov(*WINDOW, "remove", "eod", "--pool", "laptop", "--tenant", "blue").code == 1
    removed = preprov(*WINDOW, "remove", "eod", "--pool", "laptop", "--tenant", "red", "-o", "json")
    assert valid(removed.json)["removed"] == "eod"
    assert valid(preprov(*WINDOW, "list", "-o", "json").json)["windows"] == []


def test_what_makes_no_window_is_refused(preprov):
    preprov("init")
    for more in (("--days", "noday"), ("--tz", "Mars/Base"), ("--borrow", "--reclaim", "5m")):
        assert preprov(*WINDOW, "add", *EOD, *more).code == 2, more
    assert preprov(*WINDOW, "add", *EOD[:-1], "25:00").code == 2


def test_a_token_is_shown_once_and_can_be_taken_back(preprov):
    preprov("init")
    made = valid(preprov("token", "create", "--tenant", "red", "--scope", "reserve", "-o", "json").json)
    listed = preprov("token", "list", "-o", "json")
    assert made["token"].split("_", 2)[2] not in listed.out
    assert valid(listed.json)["tokens"] == [made["about"]]
    gone = valid(preprov("token", "revoke", made["about"]["token_id"], "-o", "json").json)
    assert gone["about"]["revoked_at"] is not None
    assert "revoked" in preprov("token", "list").out
    assert preprov("token", "create", "--tenant", "red", "--scope", "everything").code == 2


def test_a_window_may_have_a_first_and_a_last_day(preprov):
    preprov("init")
    more = ("--tz", "Europe/Berlin", "--since", "2026-07-01T00:00", "--until", "2026-08-01T00:00")
    made = valid(preprov(*WINDOW, "add", *EOD, *more, "-o", "json").json)["window"]
    assert (made["since"], made["until"]) == ("2026-06-30T22:00:00+00:00", "2026-07-31T22:00:00+00:00")
    assert "since 2026-07-01 00:00 until 2026-08-01 00:00" in " ".join(preprov(*WINDOW, "list").out.split())
    back = preprov(*WINDOW, "add", *EOD, "--since", "2026-07-01", "--until", "2026-06-01")
    assert (back.code, "over before it begins" in back.err) == (2, True)
    assert preprov(*WINDOW, "add", *EOD, "--until", "someday").code == 2
