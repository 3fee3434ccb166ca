from hypothesis import given
from hypothesis import strategies as st

from git_theta_ext.webpage.markup import Markup, element


def test_text_is_escaped_and_markup_is_kept():
    assert element("td", "a < b & c", Markup("<b>d</b>"), title='"e"') == (
        '<td title="&quot;e&quot;">a &lt; b &amp; c<b>d</b></td>'
    )
    assert element("rect", x=1.5, class_="h1", aria_label="f") == '<rect x="1.5" class="h1" aria-label="f"></rect>'


def test_what_no_encoding_takes_is_shown_as_an_escape():
    assert element("td", "a\udfffb", title="\ud800") == '<td title="\\ud800">a\\udfffb</td>'


@given(st.text())
def test_no_text_adds_an_element_or_an_attribute(text):
    built = element("td", text, title=text)
    assert built.count("<") == built.count(">") == 2
    assert built.count('"') == 2
