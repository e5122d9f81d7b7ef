"""HTML to text: blocks as in Markdown, tables whole, navigation left out."""

from __future__ import annotations

import pytest

from tongwen.sources.html import decode_html, page_of


@pytest.mark.parametrize(
    ("html", "text"),
    [
        ("<h2>标题</h2><p>一\n二 three\nfour</p>", "## 标题\n\n一二 three four"),
        ("<p>a<br>b</p>c", "a\nb\n\nc"),
        ("<ul><li>a<ol><li>b<li>c</ol><li>d</ul>", "- a\n  1. b\n  2. c\n- d"),
        ("<pre>x  =\n  1</pre>", "```\nx  =\n  1\n```"),
        ("<blockquote><p>a<p>b</blockquote>", "> a\n\n> b"),
        ("<p>a<script>x</script><b>b</b><!-- c --> <a href=x>d</a>", "ab d"),
        ("<p>汉<ruby>字<rp>(</rp><rt>zì</rt><rp>)</rp></ruby>", "汉字"),
        ("<p hidden>a<p>b", "b"),
        ("<nav>menu</nav><p>b", "b"),
        (
            "<table><caption>C<tr><th>a|b<th>c<tr><td rowspan=2>d<td>e<tr><td>f<br>g</table>",
            "C\n\n| a\\|b | c |\n| --- | --- |\n| d | e |\n| d | f g |",
        ),
        (
            "<table><tr><td colspan=2>T<tr><td>a<td>b<tr><td><td></table>",
            "| T |  |\n| --- | --- |\n| a | b |",
        ),
        ("<table><tr><td><p>a<tr><td><p>b</table>", "a\n\nb"),
        ("<table role=presentation><tr><td>a<td>b</table>", "a\n\nb"),
        (
            "<table><tr><td>a<td><table><tr><td>b<td>c</table></table>",
            "| a | b \\| c |\n| --- | --- |",
        ),
        (
            f"<table><tr><td colspan=2>{'long ' * 12}<td>x<tr><td>a<td>b<td>c</table>",
            f"| {('long ' * 12).strip()} |  | x |\n| --- | --- | --- |\n| a | b | c |",
        ),
    ],
)
def test_html(html: str, text: str) -> None:
    assert page_of(html).text == text


ARTICLE = "<p>" + "中国古代的桥梁建筑有着悠久的历史，赵州桥是其中最有名的一座。" * 6 + "</p>"


def test_the_article_of_a_web_page_with_its_tables() -> None:
    links = "".join(f"<li><a href=/{n}>栏目{n}</a></li>" for n in range(30))
    table = "<table><tr><th>桥<th>年代<tr><td rowspan=2>赵州桥<td>隋<tr><td>今</table>"
    page = page_of(
        f"<html><head><title>桥 - 网站</title></head><body><nav><ul>{links}</ul></nav><aside>广告"
        f"</aside><article><h1>桥</h1>{ARTICLE}{table}{ARTICLE}</article>"
        f"<footer>版权所有</footer></body></html>"
    )
    assert page.title == "桥 - 网站"
    assert "| 桥 | 年代 |\n| --- | --- |\n| 赵州桥 | 隋 |\n| 赵州桥 | 今 |" in page.text
    assert page.text.count("赵州桥是其中") == 12
    for word in ("栏目", "广告", "版权所有", "Tongwen"):
        assert word not in page.text


@pytest.mark.parametrize(
    ("encoding", "meta"),
    [("utf-8", "gb2312"), ("gbk", "gb2312"), ("big5", "big5"), ("utf-16", ""), ("gb18030", "")],
)
def test_the_encoding_of_a_page(encoding: str, meta: str) -> None:
    html = f"<meta charset={meta}><p>他們不知道我們為什麼來這個地方，大家都說這是很好的。</p>"
    assert "我們為什麼" in decode_html(html.encode(encoding))


@pytest.mark.parametrize("number", [0, 7])
def test_a_page_cannot_spell_the_mark_of_a_table(number: int) -> None:
    spelled = f"Tongwen table number {number} stands here."
    table = "<table><tr><th>桥<th>年代<tr><td>赵州桥<td>隋</table>"
    html = f"<nav>menu</nav><article>{ARTICLE}{table}<p>{spelled}</p>{ARTICLE}</article>"
    page = page_of(html)
    assert spelled in page.text
    assert page.text.count("| 赵州桥 | 隋 |") == 1
    assert page == page_of(html)
