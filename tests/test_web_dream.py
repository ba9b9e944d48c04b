"""The dreamed web by hand-written pages: what an episode determines, what it recalls, what no page may say; and that
all of it agrees with the bundled real episodes."""

from __future__ import annotations

from collections import Counter
from typing import get_args

import pytest
from dreamed_pages import guessed, recorded

from dreamgym_env.domain import Domain, load_domain
from dreamgym_env.domains.miniwob_games import GAMES, PLAIN
from dreamgym_env.domains.web import MINIWOB, WEBARENA
from dreamgym_env.domains.web_actions import parse_call
from dreamgym_env.domains.web_page import page_of, read
from dreamgym_env.domains.web_short import SAME, restore, shorten
from dreamgym_env.loading import choose_tasks
from dreamgym_env.prompts import heard, told
from dreamgym_env.types import Prediction, Split, StepContext, Task, Trajectory, Transition
from dreamgym_env.wrappers.webarena.annotator import WebAnnotator
from dreamgym_env.wrappers.webarena.configs import chosen, read_configs
from dreamgym_env.wrappers.webarena.referee import WebReferee

HOME = """Page: 'Projects - Forgeworks'
URL: http://gitlab.com
[1] link 'Projects'
[2] link 'My Profile'
heading 'Projects'
row 'paperboat | Notes | 376 stars'
[3] link 'paperboat'
row 'tidepool | Jobs | 386 stars'
[4] link 'tidepool'"""
PROJECT = """Page: 'tidepool - Forgeworks'
URL: http://gitlab.com/tidepool
[1] link 'Projects'
[2] link 'My Profile'
heading 'tidepool'
text '386 stars'
[3] button 'Star'
[4] link 'Issues'"""
STARRED = PROJECT.replace("386", "387").replace("'Star'", "'Unstar'")
PROFILE = """Page: 'My Profile - Forgeworks'
URL: http://gitlab.com/profile
[1] link 'Projects'
[2] link 'My Profile'
text 'Current status: none'
[3] textbox 'Your status'
[4] button 'Set Status'"""
ISSUES = """Page: 'Issues of tidepool - Forgeworks'
URL: http://gitlab.com/tidepool/issues
[1] link 'Projects'
[2] link 'My Profile'
[3] combobox 'Label' value='any' options=['any', 'bug'] collapsed
[4] button 'Filter'"""
BUGS = ISSUES.replace("/issues\n", "/issues?label=bug&state=open\n").replace("value='any'", "value='bug'")
BUGS += "\ntext '7 issues found'"


def context(
    instruction: str, start: str, *steps: tuple[str, str], action: str, domain: Domain = WEBARENA
) -> StepContext:
    """An episode that began at `start` and took these actions to these pages, before `action`."""
    task = Task("local-1", domain.name, instruction, start)
    state, history = start, list[Transition]()
    for index, (done, page) in enumerate(steps):
        history.append(Transition(task, index, state, done, page))
        state = page
    return StepContext(task, tuple(history), state, action)


def known(*steps: tuple[str, str], action: str, start: str = HOME) -> str | None:
    found = WEBARENA.known(context("Star the project tidepool.", start, *steps, action=action))
    return found.next_state if found else None


OPENED = ("click('4')", PROJECT)


def test_an_action_in_words_names_its_elements() -> None:
    words = {
        "click('3')": "click link 'paperboat' in 'paperboat | Notes | 376 stars'",
        "click(2)": "click link 'My Profile'",
        "drag_and_drop('1', '3')": "drag_and_drop link 'Projects', link 'paperboat' in 'paperboat | Notes | 376 stars'",
        "press('2', 'Enter')": "press link 'My Profile' 'Enter'",
        "go_back( )": "go_back()",
        "click('77')": "click('77')",
        "hello": "hello",
    }
    assert {action: WEBARENA.in_words(HOME, action) for action in words} == words
    assert WEBARENA.in_words(PROFILE, "fill('3', 'Busy')") == "fill textbox 'Your status' 'Busy'"
    assert WEBARENA.in_words("no page", "click('1')") == "click('1')"


def test_typing_changes_one_element() -> None:
    typed = PROFILE.replace("'Your status'", "'Your status' value='On a train'")
    assert known(action="fill('3', ' On  a train ')", start=PROFILE) == typed
    assert known(("fill('3', 'On a train')", typed), action="clear('3')", start=PROFILE) == PROFILE
    assert known(action="select_option('3', 'bug')", start=ISSUES) == ISSUES.replace("value='any'", "value='bug'")
    assert known(action="select_option('3', ['bug'])", start=ISSUES) is None
    assert known(action="fill('3', 'two\\nlines')", start=PROFILE) is None
    secret = PROFILE.replace("Your status", "Password")
    assert known(action="fill('3', 'abc')", start=secret) == secret.replace("'Password'", "'Password' value='•••'")
    assert known(action="fill('3', 'ab')", start=PROFILE.replace("textbox", "searchbox")) is None
    assert known(action="hover('3')", start=PROFILE) == known(action="scroll(0, 500)", start=PROFILE) == PROFILE
    assert known(action="scroll(0, 500)", start=f"{PROFILE}\n(9 lines below are not shown; scroll down)") is None


def test_a_page_opened_before_is_shown_again() -> None:
    assert known(action="click('4')") is None
    assert known(OPENED, ("click('1')", HOME), action="click('4')") == PROJECT
    assert known(OPENED, ("click('1')", HOME), action="click('3')") is None
    assert known(OPENED, ("click('2')", PROFILE), ("click('1')", HOME), action="click('2')") == PROFILE
    assert known(OPENED, action="go_back()") == HOME
    assert known(OPENED, ("go_back()", HOME), action="go_forward()") == PROJECT
    assert known(OPENED, action="goto('http://gitlab.com')") == HOME
    assert known(OPENED, action="goto('http://gitlab.com/nowhere')") is None
    assert known(action="go_back()") is None


def test_a_form_that_was_sent_may_change_anything() -> None:
    seen = (("click('2')", PROFILE), ("click('1')", HOME), OPENED)
    assert known(*seen, action="click('2')") == PROFILE
    sent = (*seen, ("click('3')", STARRED))
    assert known(*sent, action="click('2')") is None
    assert known(*sent, action="go_back()") is None
    assert known(*sent, action="goto('http://gitlab.com')") is None
    assert known(*sent, action="goto('http://gitlab.com/tidepool')") == STARRED
    lied = WEBARENA.contradiction(context("x", HOME, *sent, action="click('2')"), Prediction("", ISSUES, 0.0, False))
    assert lied == "that link leads to http://gitlab.com/profile"
    asked = (OPENED, ("click('4')", ISSUES), ("select_option('3', 'bug')", ISSUES), ("click('4')", BUGS))
    assert known(*asked, action="goto('http://gitlab.com')") == HOME  # a form that asks only changes nothing


def test_what_an_episode_ends_with_is_never_known() -> None:
    assert known(action="send_msg_to_user('x')") is None
    many = tuple(("hover('1')", HOME) for _ in range(WEBARENA.horizon - 1))
    assert known(*many[1:], action="hover('1')") == HOME
    assert known(*many, action="hover('1')") is None  # the evaluators are asked at the horizon


def test_pages_are_told_short_and_read_back() -> None:
    assert shorten("", HOME).split("\n")[2:5] == ["link 'Projects'", "link 'My Profile'", "heading 'Projects'"]
    assert shorten(HOME, HOME) == SAME
    assert shorten(HOME, PROJECT).split("\n")[2:] == [
        "(2 lines as before)", "heading 'tidepool'", "text '386 stars'", "button 'Star'", "link 'Issues'",
    ]  # fmt: skip
    typed = PROFILE.replace("'Your status'", "'Your status' value='x'")
    assert shorten(PROFILE, typed).split("\n")[2:] == [
        "(3 lines as before)", "textbox 'Your status' value='x'", "button 'Set Status'",
    ]  # fmt: skip
    fewer = HOME.replace("row 'paperboat | Notes | 376 stars'\n[3] link 'paperboat'\n", "").replace("[4]", "[3]")
    assert shorten(HOME, fewer).split("\n")[2:] == ["(3 lines as before)", "(2 lines as before)"]
    for before, after in ((HOME, PROJECT), (PROFILE, typed), (HOME, fewer), (HOME, HOME), ("", BUGS)):
        assert restore(before, shorten(before, after)) == after
    with pytest.raises(ValueError, match="99 lines cannot be as before, the page before had 7"):
        restore(HOME, "Page: 'x'\nURL: y\n(99 lines as before)")


def test_recall_puts_what_an_action_names_beside_it() -> None:
    assert WEBARENA.recall(context("x", HOME, action="click('4')")) == [
        "[4] link 'tidepool'", "row 'tidepool | Jobs | 386 stars'",
    ]  # fmt: skip
    typed = PROFILE.replace("'Your status'", "'Your status' value='Busy'")
    assert WEBARENA.recall(context("x", PROFILE, ("fill('3', 'Busy')", typed), action="click('4')")) == [
        "[4] button 'Set Status'", "text 'Current status: none'", "[3] textbox 'Your status' value='Busy'",
    ]  # fmt: skip
    led = context("x", HOME, OPENED, ("click('3')", STARRED), ("click('1')", HOME), action="click('4')")
    assert WEBARENA.recall(led)[-1] == "URL: http://gitlab.com/tidepool"
    said = context("Star the project tidepool.", HOME, OPENED, ("click('3')", STARRED), action="send_msg_to_user('ok')")
    assert WEBARENA.recall(said) == [
        "Page: 'tidepool - Forgeworks'", "URL: http://gitlab.com/tidepool", "[3] button 'Unstar'",
    ]  # fmt: skip


def end(instruction: str, *pages: str, says: str = "Done.") -> bool | None:
    """Whether the task is done, by the pages; a dream may say nothing else, and no success where they do not tell."""
    steps = tuple(("click('1')", page) for page in pages)
    asked = context(instruction, HOME, *steps, action=f"send_msg_to_user({says!r})")
    lasting = [Prediction("", asked.state, float(success), True) for success in (True, False)]
    refused = [WEBARENA.contradiction(asked, one) is not None for one in lasting]
    page, call = page_of(asked.state), WEBARENA.call_of(asked.state, asked.action)
    assert page is not None
    assert call is not None
    found = WEBARENA.rules.end(asked, page, call)
    assert refused == [found.verdict is False, found.verdict is True]
    return found.success


COMMITS = """Page: 'Commits of tidepool - Forgeworks'
URL: http://gitlab.com/tidepool/commits
heading '2023-05-03'
[1] link 'Fix B'
text 'by ada'
heading '2023-04-20'
[2] link 'Fix A'
text 'by bo'
[3] link 'Add A'
text 'by cy'
heading '2023-03-01'
[4] link 'Begin'
text 'by bo'"""
FORUM = """Page: '/f/nightsky - Common Room'
URL: http://reddit.com/f/nightsky
row 'Old | ada | 2023-01-01 | 90 points | 2 comments'
[1] link 'Old'
row 'New | bo | 2023-02-01 | 5 points | 3 comments'
[2] link 'New'"""
POST = """Page: 'New - Common Room'
URL: http://reddit.com/f/nightsky/7
text 'You upvoted this'"""
PENDING = """Page: 'Pending Reviews - Market Hall Admin'
URL: http://luma.com/admin/reviews
row 'Ada Ek | 2 stars | Kettle'
[1] button 'Approve'
text '0 reviews were rejected'"""


def test_conditions_of_tasks() -> None:
    star = "Star the project tidepool."
    assert end(star, PROJECT, STARRED) is True
    assert end(star, PROJECT, STARRED, PROJECT) is end(star, HOME) is False
    assert end(star, HOME, says="It is done") is False
    count = "How many open issues of tidepool have the label bug?"
    assert [end(count, BUGS, says=text) for text in ("7", "17", "There are 7")] == [True, False, False]
    assert end(count, ISSUES, says="7") is None  # nothing told it
    assert end("Show me the open issues of tidepool with the label bug.", BUGS) is True
    assert end("Show me the open issues of tidepool with the label bug.", BUGS, ISSUES) is False
    first = "What is the message of the first commit of April 2023 in tidepool?"
    assert [end(first, COMMITS, says=text) for text in ("It is 'Add A'.", "Fix A", "Begin")] == [True, False, False]
    cut = COMMITS.partition("\nheading '2023-03")[0] + "\n(40 lines below are not shown; scroll down)"
    assert end(first, cut, says="Add A") is None  # April may go on below
    assert end("Who made the latest commit in tidepool?", COMMITS, says="ada made it.") is True
    assert end("Upvote the newest post in the forum nightsky.", FORUM, POST) is True
    assert end("Upvote the newest post in the forum nightsky.", FORUM, POST.replace("New", "Old")) is False
    assert end("Upvote the newest post in the forum nightsky.", POST) is None  # which is the newest was not shown
    most = "How many comments has the post with the most points in the forum nightsky?"
    assert [end(most, FORUM, says=text) for text in ("2", "3")] == [True, False]
    approve = "Approve the review of Ada Ek that waits for it."
    gone = PENDING.replace("row 'Ada Ek | 2 stars | Kettle'\n[1] button 'Approve'\n", "")
    assert [end(approve, page) for page in (PENDING, gone, gone.replace("0 rev", "1 rev"))] == [False, True, None]
    assert end("Dance.", PROJECT) is None


def problem(action: str, page: str, reward: float = 0.0, terminated: bool = False) -> str:
    asked = context("Star the project tidepool.", HOME, OPENED, action=action)
    return WEBARENA.contradiction(asked, Prediction("", page, reward, terminated)) or ""


def test_what_a_dream_may_not_say() -> None:
    assert problem("click('4')", ISSUES) == ""
    assert "the page must stay" in problem("click('9')", ISSUES)
    assert "must go on with:\nPage: 'Projects" in problem("go_back()", ISSUES)
    assert "not a line of a page" in problem("click('4')", "Page: 'x'\nURL: y\nhello")
    assert "does not end" in problem("click('4')", ISSUES, 1.0, True)
    assert "the episode ends here" in problem("send_msg_to_user('Done.')", PROJECT)
    assert "with the page as it is" in problem("send_msg_to_user('Done.')", ISSUES, 0.0, True)
    assert problem("send_msg_to_user('Done.')", PROJECT, 1.0, True) == "no success: button Unstar, not shown"
    assert problem("send_msg_to_user('Done.')", PROJECT, 0.0, True) == ""
    assert "no page so far shows" in problem("report_infeasible('no')", PROJECT, 1.0, True)


def test_what_no_page_shows_is_no_success() -> None:
    def judged(instruction: str, *pages: str, says: str = "7") -> tuple[str | None, Prediction | None]:
        steps = [("click('4')", page) for page in pages]
        asked = context(instruction, HOME, *steps, action=f"send_msg_to_user('{says}')")
        won = Prediction("so success", (HOME, *pages)[-1], 1.0, True)
        return WEBARENA.contradiction(asked, won), WEBARENA.mended(asked, won)

    count = "How many open issues of tidepool have the label bug?"
    refused, failed = judged(count, ISSUES)  # not filtered: a guess
    assert refused == "no success: no page so far shows that the task is done"
    assert failed == Prediction("says '7'; so failure", ISSUES, 0.0, True)
    assert judged(count, ISSUES, BUGS)[0] is None
    assert judged("Upvote the newest post in the forum nightsky.", POST)[0] == refused  # which is the newest
    assert judged("Dance.", PROJECT) == (None, None), "of other tasks only the model knows what they ask for"
    asked = context(count, HOME, action="report_infeasible('no')")
    assert WEBARENA.contradiction(asked, Prediction("", HOME, 1.0, True)) == refused
    assert WEBARENA.contradiction(asked, Prediction("", HOME, 0.0, True)) is None


def test_an_end_is_mended_where_the_pages_tell_it() -> None:
    def mended(action: str, page: str, reward: float, terminated: bool) -> Prediction | None:
        asked = context("Star the project tidepool.", HOME, OPENED, action=action)
        return WEBARENA.mended(asked, Prediction("so success", page, reward, terminated))

    said = mended("send_msg_to_user('Done.')", ISSUES, 1.0, True)
    assert said == Prediction("says 'Done.'; button Unstar, not shown no; so failure", PROJECT, 0.0, True)
    opened = mended("click('4')", ISSUES, 1.0, True)
    assert opened is not None
    assert (opened.next_state, opened.reward, opened.terminated) == (ISSUES, 0.0, False)
    assert "so success" not in opened.reasoning_trace
    over = Prediction("says 'no'; so failure", PROJECT, 0.0, True)
    assert mended("report_infeasible('no')", PROJECT, 1.0, True) == over  # no page shows that it cannot be
    assert mended("report_infeasible('no')", ISSUES, 0.0, False) == over
    assert mended("click('99')", PROJECT, 1.0, True) is None  # impossible: the rules answer
    assert mended("click('4')", "Page: 'x'", 0.0, False) is None  # no page
    garbled = ISSUES.replace("[2] link 'My Profile'", "[2] link 'My 'My Profile'")
    struck = mended("click('4')", garbled, 0.0, False)
    assert struck is not None
    assert struck.next_state == ISSUES.replace("[2] link 'My Profile'\n", "").replace("[3]", "[2]").replace(
        "[4]", "[3]"
    )
    back = mended("go_back()", garbled, 0.0, False)
    assert back is not None
    assert (back.next_state, back.terminated) == (struck.next_state, False)
    for line in ("[1] link 'Projects'", "[4] button 'Filter'"):
        garbled = garbled.replace(line, line[:-1])
    assert mended("click('4')", garbled, 0.0, False) is None, "three such lines are too many"


def miniwob(name: str, *lines: str) -> str:
    return "\n".join(["Page: 'Task'", f"URL: miniwob/{name}.html", *lines])


LOGIN = miniwob(
    "login-user", "text 'Username'", "[1] textbox '#username'", "text 'Password'", "[2] textbox '#password'",
    "[3] button 'Login'",
)  # fmt: skip
LOGIN_TASK = 'Enter the username "juan" and the password "Jc" into the text fields and press login.'


def test_a_miniwob_form() -> None:
    one, two = "[1] textbox '#username'", "[2] textbox '#password'"
    named = LOGIN.replace(one, one + " value='juan'")
    both = named.replace(two, two + " value='••'")
    steps = [("fill('1', 'juan')", named), ("fill('2', 'Jc')", both)]
    for index, (action, page) in enumerate(steps):
        found = MINIWOB.known(context(LOGIN_TASK, LOGIN, *steps[:index], action=action, domain=MINIWOB))
        assert found is not None
        assert found.next_state == page
    last = context(LOGIN_TASK, LOGIN, *steps, action="click('3')", domain=MINIWOB)
    assert MINIWOB.known(last) is None
    assert MINIWOB.recall(last)[-1] == two + " value='Jc'"
    verdicts = [MINIWOB.contradiction(last, Prediction("", both, reward, True)) for reward in (1.0, 0.0)]
    assert verdicts == [None, "no failure: every condition is met"]
    assert MINIWOB.contradiction(last, Prediction("", both, 0.0, False)) == "the episode ends here"
    wrong = context(LOGIN_TASK, LOGIN, steps[0], ("fill('2', 'JC')", both), action="click('3')", domain=MINIWOB)
    assert MINIWOB.contradiction(wrong, Prediction("", both, 1.0, True)) == "no success: Jc JC"


def test_marks_in_miniwob() -> None:
    boxes = miniwob("click-checkboxes", "[1] checkbox 'a'", "[2] checkbox 'b' checked", "[3] button 'Submit'")
    radios = boxes.replace("checkbox '", "radio '").replace("click-checkboxes", "click-option")

    def clicked(page: str, number: int, asked: str = "Select a, b and click Submit.") -> str:
        found = MINIWOB.known(context(asked, page, action=f"click('{number}')", domain=MINIWOB))
        return found.next_state if found else ""

    assert clicked(boxes, 1) == boxes.replace("'a'", "'a' checked")
    assert clicked(boxes, 2) == boxes.replace(" checked", "")
    assert clicked(radios, 1) == radios.replace(" checked", "").replace("'a'", "'a' checked")
    assert clicked(boxes, 3) == ""
    widget = miniwob("click-widget", "[1] checkbox 'a'", "[2] textbox 'b'")
    assert clicked(widget, 1, 'Click on a "checkbox" widget.') == ""  # that ends it


def miniwob_end(page: str, instruction: str, action: str) -> tuple[bool | None, bool | None]:
    call = parse_call(action)
    assert call is not None
    found = MINIWOB.rules.end(context(instruction, page, action=action, domain=MINIWOB), read(page), call)
    return found.ends, found.success


BUTTONS = miniwob("click-button", "[1] button 'ok'", "text 'x'", "[2] textbox ''", "[3] button 'Yes'")
TABS = miniwob(
    "click-tab-2", "[1] tab 'Tab #1' expanded selected", "[2] link 'Tab #1'", "[3] tab 'Tab #2' collapsed",
    "[4] link 'Tab #2'", "text 'a b'", "[5] clickable 'sed'",
)  # fmt: skip
TREE = miniwob(
    "navigate-tree", "[1] clickable 'Amy'", "[2] clickable '.hitarea.expandable-hitarea'", "[3] clickable 'Amy'",
    "[4] clickable 'Bo'",
)  # fmt: skip
MAIL = miniwob(
    "email-inbox-delete", "[1] clickable 'Amy Sed..'", "[2] clickable '.trash'", "[3] clickable '.star'",
    "[4] clickable 'Bo Ut..'", "[5] clickable '.trash'", "[6] clickable '.star'",
)  # fmt: skip
OPEN_MAIL = miniwob(
    "email-inbox-delete", "[1] clickable '#close-email'", "[2] clickable '.trash'", "text 'Ut.'", "text 'Bo'",
    "text 'to me'",
)  # fmt: skip
CONTACT = miniwob(
    "phone-book", "heading 'Amy'", "text 'Phone:'", "[1] link '110-000-1234'", "text 'Email:'", "[2] link 'amy1@b.io'",
    "text 'Address:'", "[3] link '7 Ash Ct'", "[4] clickable '< 2 >'", "[5] link '<'", "[6] link '2'", "[7] link '>'",
)  # fmt: skip
CALL = "Find {} in the contact book and click on their email."
PICK = miniwob(
    "form-sequence-3", "[1] combobox '#dropdown' value='6 ft' options=['6 ft', '6ft 1in'] collapsed",
    "[2] clickable '▾'", "[3] button 'Yes'", "[4] button 'No'",
)  # fmt: skip
CHOOSE = 'Choose {} from the dropdown, then click the button labeled "No".'
MARK = miniwob(
    "form-sequence-2", "[1] radio ''", "[2] radio '' checked", "[3] textbox '#input-1'",
    "[4] textbox '#input-2' value='-7'", "[5] button 'Submit'",
)  # fmt: skip
CHECK = 'Check the 1st radio button and enter the number "-7" into the {} textbox.'
DRAWN = miniwob("generate-number", "text '7'", "[1] button 'Generate'", "[2] button 'Submit'")
DRAW = "Generate {} number{}, then press submit."
SPIN = miniwob("use-spinner", "[1] spinbutton 'Select a value:' value='0'", "text '-6'", "[2] button 'Submit'")
WORD = miniwob("find-word", "text 'In at. Sed, ut'", "[1] textbox '#answer-input' value='Sed.'", "[2] button 'Submit'")
THIRD = 'Find the 3rd word in the paragraph, type that into the textbox and press "Submit".'
MOVIE = miniwob(
    "multi-orderings", "row 'Director'", "[1] textbox '' value='ames'", "row 'Year'", "[2] textbox '' value='1993'",
    "row 'Genre'", "[3] textbox '' value='Action'", "[4] clickable 'Submit'",
)  # fmt: skip
DELETE = "Find the email by {} and click the trash icon to delete it."
FIND = 'Navigate through the file tree. Find and click on the folder or file named "{}".'
SUM = miniwob("simple-arithmetic", "text '7 - 9 ='", "[1] textbox '#math-answer' value='-2'", "[2] button 'Submit'")


@pytest.mark.parametrize(
    ("page", "instruction", "action", "ends", "success"),
    [
        (BUTTONS, 'Click on the "Yes" button.', "click('3')", True, True),
        (BUTTONS, 'Click on the "Yes" button.', "click('1')", True, False),
        (BUTTONS, 'Click on the "Yes" button.', "click('2')", False, None),
        (TABS, 'Switch between the tabs to find and click on the link "sed".', "click('5')", True, True),
        (TABS, 'Switch between the tabs to find and click on the link "at".', "click('5')", True, False),
        (TABS, 'Switch between the tabs to find and click on the link "at".', "click('4')", False, None),
        (SUM, "Solve the math problem and type your answer.", "click('2')", True, True),
        (SUM.replace("7", "8"), "Solve the math problem and type your answer.", "click('2')", True, False),
        (MAIL, DELETE.format("Bo"), "click('2')", True, False),
        (MAIL, DELETE.format("Bo"), "click('5')", True, True),
        (MAIL, DELETE.format("Bo"), "click('6')", False, None),
        (OPEN_MAIL, DELETE.format("Bo"), "click('2')", True, True),
        (OPEN_MAIL, DELETE.format("Amy"), "click('2')", True, False),
        (OPEN_MAIL, DELETE.format("Amy"), "click('1')", False, None),
        (TREE, FIND.format("Amy"), "click('3')", True, True),
        (TREE, FIND.format("Amy"), "click('2')", True, True),
        (TREE, FIND.format("Bo"), "click('4')", True, True),
        (TREE, FIND.format("Cy"), "click('4')", True, False),
        (TREE, FIND.format("Cy"), "click('3')", False, None),
        (TREE.replace("expandable", "collapsable"), FIND.format("Bo"), "click('3')", None, None),
        (CONTACT, CALL.format("Amy"), "click('2')", True, True),
        (CONTACT, CALL.format("Amy"), "click('3')", True, True),  # MiniWoB asks for the person alone
        (CONTACT, CALL.format("Bo"), "click('2')", True, False),
        (CONTACT, CALL.format("Bo"), "click('7')", False, None),
        (PICK, CHOOSE.format("6 ft"), "click('4')", True, True),
        (PICK, CHOOSE.format("6 ft"), "click('3')", True, False),
        (PICK, CHOOSE.format("6ft 1in"), "click('4')", True, False),
        (PICK, CHOOSE.format("6 ft"), "click('2')", False, None),
        (MARK, CHECK.format("2nd"), "click('5')", True, True),  # any radio button will do
        (MARK.replace(" checked", ""), CHECK.format("2nd"), "click('5')", True, False),
        (MARK, CHECK.format("1st"), "click('5')", True, False),
        (DRAWN, DRAW.format("a", " less than 8"), "click('2')", True, True),
        (DRAWN, DRAW.format("a", " greater than 7"), "click('2')", True, False),
        (DRAWN, DRAW.format("an odd", ""), "click('2')", True, True),
        (DRAWN.replace("7", "-"), DRAW.format("an odd", ""), "click('2')", True, False),
        (DRAWN.replace("7", "-"), DRAW.format("an even", ""), "click('2')", True, True),
        (DRAWN, DRAW.format("an even", ""), "click('1')", False, None),
        (SPIN, "Select -6 with the spinner and hit Submit.", "click('2')", True, True),
        (SPIN.replace("-6", "-6.7"), "Select -6 with the spinner and hit Submit.", "click('2')", True, True),
        (SPIN, "Select 6 with the spinner and hit Submit.", "click('2')", True, False),
        (WORD, THIRD, "click('2')", True, True),
        (WORD.replace("Sed.", "sed"), THIRD, "click('2')", True, False),
        (MOVIE, "Search for action movies directed by Ames from year 1993.", "click('4')", True, True),
        (MOVIE, "Search for action movies directed by Ames from year 1994.", "click('4')", True, False),
        (BUTTONS.replace("click-button", "tic-tac-toe"), "Win.", "click('1')", None, None),
    ],
)
def test_ends_of_miniwob(page: str, instruction: str, action: str, ends: bool | None, success: bool | None) -> None:
    assert miniwob_end(page, instruction, action) == (ends, success)


def test_which_button_was_the_last_is_told_where_there_are_several() -> None:
    stays = "the page stays"
    for page, instruction, action, said in (
        (
            PICK,
            CHOOSE.format("6 ft"),
            "click('3')",
            f"click button 'Yes'; {stays}; 6 ft 6 ft yes; No Yes no; so failure",
        ),
        (CONTACT, CALL.format("Bo"), "click('2')", f"click link 'amy1@b.io'; {stays}; Bo Amy no; so failure"),
        (DRAWN, DRAW.format("an odd", ""), "click('2')", f"click button 'Submit'; {stays}; odd 7 yes; so success"),
    ):
        asked = context(instruction, page, action=action, domain=MINIWOB)
        step = Transition(asked.task, 0, page, action, page, float(said.endswith("success")), True)
        episode = Trajectory(asked.task, (step,), "success" if step.reward else "failure")
        assert WebAnnotator(MINIWOB).annotate(episode).transitions[0].reasoning_trace == said


def test_a_text_is_compared_with_the_spaces_that_its_box_does_not_show() -> None:
    page = miniwob("enter-text", "[1] textbox '#tt'", "[2] button 'Submit'")
    shown = page.replace("'#tt'", "'#tt' value='sed'")
    for typed, success in (("sed", True), (" sed", False)):
        last = context(
            'Enter "sed" into the text field and press Submit.', page, (f"fill('1', {typed!r})", shown),
            action="click('2')", domain=MINIWOB,
        )  # fmt: skip
        right = Prediction("", shown, float(success), True)
        wrong = Prediction("", shown, float(not success), True)
        assert MINIWOB.contradiction(last, right) is None
        assert MINIWOB.contradiction(last, wrong) is not None


def test_a_number_box_may_change_when_it_is_left() -> None:
    asked = [
        context("Select -6 with the spinner and hit Submit.", SPIN, action=action, domain=MINIWOB)
        for action in ("hover('1')", "focus('2')")
    ]
    assert [MINIWOB.known(one) is not None for one in asked] == [True, False]


def test_miniwob_tasks_must_ask_for_what_the_page_shows() -> None:
    def said(instruction: str) -> str | None:
        return MINIWOB.task_problem(Task("x", "miniwob", instruction, BUTTONS))

    assert said('Click on the "ok" button.') is None
    assert said('Click on the "no" button.') == said("Dance.") == "must ask for something that its page shows"
    assert MINIWOB.task_type(Task("x", "miniwob", "", BUTTONS)) == "click-button"
    assert WEBARENA.task_type(Task("x", "webarena", "", PROJECT)) == "gitlab.com"


def traces(instruction: str, *steps: tuple[str, str], success: bool | None) -> list[str]:
    made = context(instruction, HOME, *steps, action="noop()")
    ended = [*made.history[:-1], Transition(
        made.task, len(steps) - 1, made.history[-1].state, steps[-1][0], steps[-1][1], float(bool(success)),
        success is not None,
    )]  # fmt: skip
    episode = Trajectory(made.task, tuple(ended), "time_limit" if success is None else "success")
    return [step.reasoning_trace for step in WebAnnotator(WEBARENA).annotate(episode).transitions]


def test_traces_by_hand() -> None:
    busy = PROFILE.replace("'Your status'", "'Your status' value='Busy'")
    after = PROFILE.replace("none", "Busy")
    assert traces(
        "Set my status to 'Busy'.", ("click('4')", PROJECT), ("click('3')", STARRED), ("click('2')", PROFILE),
        ("fill('3', 'Busy')", busy), ("click('4')", after), ("send_msg_to_user('Done.')", after), success=True,
    ) == [
        "click link 'tidepool' in 'tidepool | Jobs | 386 stars'; opens 'tidepool - Forgeworks'",
        "click button 'Star'; now text '387 stars'",
        "click link 'My Profile'; opens 'My Profile - Forgeworks'",
        "textbox 'Your status' = 'Busy'; now textbox 'Your status' value='Busy'",
        "click button 'Set Status'; sends Your status = 'Busy'; now text 'Current status: Busy'",
        "says 'Done.'; text Current status: Busy, text Current status: Busy yes; so success",
    ]  # fmt: skip
    assert traces("Set my status to 'Busy'.", ("send_msg_to_user('x')", HOME), success=False) == [
        "says 'x'; My Profile - *, not seen no; so failure"
    ]
    assert traces("Dance.", ("send_msg_to_user('x')", HOME), success=True) == ["says 'x'; so success"]


def test_measures_count_elements_on_both_pages() -> None:
    asked = context("x", HOME, action="click('4')")
    step = Transition(asked.task, 0, HOME, "click('4')", PROJECT)
    guess = PROJECT.replace("button 'Star'", "button 'Unstar'")
    found = Counter(WEBARENA.compare(asked, step, guess))
    assert found == {
        ("numbered as listed", True): 1,
        ("elements after navigation (F1)", True): 6,  # 3 of 4 elements on both sides
        ("elements after navigation (F1)", False): 2,
    }
    assert WEBARENA.compare(asked, step, "no page")[0] == ("numbered as listed", False)
    assert (WEBARENA.kind(asked), WEBARENA.is_open(asked)) == ("link", True)


def test_the_referee() -> None:
    referee = WebReferee(WEBARENA)
    star = context("Star the project tidepool.", HOME, OPENED, ("click('3')", STARRED), action="send_msg_to_user('x')")
    ends = [Transition(star.task, 2, STARRED, star.action, STARRED, reward, True) for reward in (1.0, 0.0)]
    assert [referee.step_errors(star, one) for one in ends] == [[], ["contradiction"]]
    assert [referee.judge(Trajectory(star.task, (*star.history, one), "success")) for one in ends] == [True, True]
    assert referee.judge(Trajectory(star.task, star.history, "time_limit")) is None
    accepted = Transition(star.task, 2, STARRED, "click('77')", HOME)
    impossible = StepContext(star.task, star.history, STARRED, "click('77')")
    assert referee.step_errors(impossible, accepted) == ["impossible_accepted"]


@pytest.mark.parametrize("name", ["webarena", "miniwob"])
def test_everything_agrees_with_real_episodes(name: str) -> None:
    """On all bundled ones: what is possible, what is known, that the truth contradicts nothing, how episodes end."""
    domain, counts = load_domain(name), Counter[str]()
    for episode in recorded(name):
        for index, step in enumerate(episode.transitions):
            here = StepContext(episode.task, episode.transitions[:index], step.state, step.action)
            action = domain.parse_action(step.state, step.action)
            assert (action is not None and domain.is_possible(here, action)) == step.possible, step
            truth = Prediction("", step.next_state, step.reward, step.terminated)
            if step is episode.transitions[-1] and guessed(episode):
                counts["guesses"] += 1
                continue
            assert domain.contradiction(here, truth) is None, step
            if step.possible and (same := domain.mended(here, truth)):
                assert (same.next_state, same.reward, same.terminated) == (
                    step.next_state,
                    step.reward,
                    step.terminated,
                )
                counts["mended"] += 1
            assert heard(domain, step.state, told(domain, step.state, step.next_state)) == step.next_state
            if step.possible and (found := domain.known(here)):
                assert (found.next_state, False) == (step.next_state, step.terminated), step
                assert found.reasoning_trace == step.reasoning_trace
                counts["known"] += 1
            answers = episode.policy != "crawler"  # which says "Done." wherever it is
            if answers and step.terminated and episode.end_reason != "left_sites":
                counts["ends"] += 1
                counts["told"] += " yes; so " in step.reasoning_trace or " no; so " in step.reasoning_trace
            counts["steps"] += 1
    assert counts["known"] > 0.1 * counts["steps"] > 50
    assert counts["told"] > 0.8 * counts["ends"] > 20
    assert counts["mended"] > counts["told"]
    assert counts["guesses"] == (20 if name == "webarena" else 0)  # a careless agent's, of more than 1,700 successes


@pytest.mark.parametrize(("name", "least"), [("webarena", 4), ("miniwob", 20)])
def test_the_bundled_episodes_are_of_many_tasks(name: str, least: int) -> None:
    assert len({WEBARENA.task_type(one.task) for one in recorded(name)}) >= least
    assert {one.task.split for one in recorded(name)} == {"train"}
    seeds = {task.task_id: task for task in choose_tasks(None, name, None)}
    assert {task.split for task in seeds.values()} == {"train", "held_out"}
    assert all(seeds[one.task.task_id] == one.task for one in recorded(name))


def test_no_task_of_the_local_sites_that_is_kept_from_training_is_dreamed() -> None:
    configs = read_configs("local")
    seeds = {split: {task.task_id for task in choose_tasks(None, "webarena", split)} for split in get_args(Split)}
    real = {split: set(chosen(configs, "all", split, None)) for split in get_args(Split)}
    assert seeds["held_out"] == real["held_out"]
    assert seeds["train"] == real["train"]


def test_what_is_bundled_of_miniwob_has_none_of_its_words() -> None:
    tasks = choose_tasks(None, "miniwob", None)
    assert {MINIWOB.task_type(one) for one in tasks} == set(PLAIN) < set(GAMES)
    assert all(one.initial_state for one in tasks)
    unsaid = {one.instruction for one in tasks if MINIWOB.task_problem(one)}
    assert unsaid <= {'Click on a "text" widget.', 'Click on a "textarea" widget.'}
