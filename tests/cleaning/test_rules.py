"""The rules, each on texts written for it, and the whole of them on rows."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest

from tongwen.cleaning.cleaner import Cleaner
from tongwen.cleaning.findings import Verdict
from tongwen.config.cleaning import RULES, CleaningConfig
from tongwen.errors import ConfigError
from tongwen.messages.conversation import Conversation, Document, Item, Judged, Message, Preference


def clean(item: Item | str, **settings: object) -> Verdict:
    if isinstance(item, str):
        item = Document(item)
    return Cleaner(CleaningConfig.model_validate({"clean": ["none"], **settings}))(item)


def mended(item: str, *rules: str, **settings: object) -> str | None:
    """The text of a document behind some rules; None if it was filtered."""
    verdict = clean(item, clean=list(rules or ["none"]), **settings)
    assert verdict.item is None or isinstance(verdict.item, Document)
    return verdict.item.text if verdict.item else None


def talk(question: str, answer: str, *, trained: bool = True) -> Conversation:
    return Conversation(
        (Message("user", question), Message("assistant", answer, trained=trained)),
        ('{"name":"t"}',),
    )


PROSE_ZH = "清晨的阳光照进院子里，老人坐在门口，一边喝茶一边看报纸，孩子们在巷子里追着跑来跑去。"
PROSE_EN = "The old man sat by the door with his tea and read the paper while the children played."


class TestCleaner:
    def test_all_rules_leave_prose_alone(self) -> None:
        for text in (PROSE_ZH, PROSE_EN, f"{PROSE_ZH}\n\n{PROSE_EN}"):
            item = Document(text)
            assert clean(item, clean=["all"]) == Verdict(item)

    def test_a_row_without_faults_is_the_same_object(self) -> None:
        item = talk("你好", PROSE_ZH)
        assert clean(item, clean=["all"]).item == item

    def test_structure_stays(self) -> None:
        item = Judged(talk("你\u200b好", "很\u200b好", trained=False), good=False)
        verdict = clean(item, clean=["unicode"])
        assert verdict.item == Judged(talk("你好", "很好", trained=False), good=False)
        assert [(f.rule, f.action) for f in verdict.findings] == [("unicode", "mended")] * 2

    def test_thoughts_are_looked_at(self) -> None:
        said = Message("assistant", "4", thinking="2\u200b + 2")
        item = Conversation((Message("user", "2+2?"), said))
        found = clean(item, clean=["unicode"]).item
        assert isinstance(found, Conversation)
        assert found.messages[1].thinking == "2 + 2"

    def test_answers_that_become_the_same_teach_nothing(self) -> None:
        pair = Preference(
            (Message("user", "?"),),
            (Message("assistant", "好"),),
            (Message("assistant", "好\u200b"),),
        )
        verdict = clean(pair, clean=["unicode"])
        assert verdict.item is None
        assert verdict.findings[-1].action == "filtered"

    def test_both_answers_are_looked_at(self) -> None:
        pair = Preference(
            (Message("user", "?"),),
            (Message("assistant", "好"),),
            (Message("assistant", "[INST]"),),
        )
        assert clean(pair, clean=["leaks"]).item is None

    def test_a_mend_never_leaves_an_empty_text(self) -> None:
        verdict = clean("\u200b\u200b", clean=["unicode"])
        assert verdict.item is None
        assert verdict.findings[0].action == "filtered"
        answer = clean(talk("?", "### Response:\n"), clean=["leaks"], leaks="mend")
        assert answer.item is None

    def test_the_first_filter_ends_it(self) -> None:
        verdict = clean("短", clean=["all"])
        assert [finding.rule for finding in verdict.findings] == ["length"]

    def test_it_can_be_sent_to_another_process(self, tmp_path: Path) -> None:
        words = tmp_path / "words.txt"
        words.write_text("坏词\n", encoding="utf-8")
        config = CleaningConfig(clean=["all"], words=[words], script="simplified", personal="mask")
        cleaner = pickle.loads(pickle.dumps(Cleaner(config)))  # noqa: S301
        for text in (PROSE_ZH, f"{PROSE_ZH}坏词", "見13812345678" + PROSE_ZH):
            assert cleaner(Document(text)) == Cleaner(config)(Document(text))


class TestConfig:
    def test_sets_and_order(self) -> None:
        assert CleaningConfig().rules == RULES[:4]
        assert CleaningConfig(clean=["all"]).rules == RULES
        assert CleaningConfig(clean=["none"]).rules == ()
        assert CleaningConfig(clean=["length", "unicode"]).rules == ("unicode", "length")

    def test_a_setting_switches_its_rule_on(self) -> None:
        assert CleaningConfig(clean=["none"], script="simplified").rules == ("script",)
        assert CleaningConfig(clean=["none"], languages=["zh"]).rules == ("language",)
        assert "length" in CleaningConfig(max_chars=10).rules

    def test_a_misspelt_rule_is_an_error_that_names_the_nearest(self) -> None:
        with pytest.raises(ConfigError, match="no rule is called 'mojibak'") as caught:
            CleaningConfig(clean=["mojibak"])
        assert "did you mean mojibake?" in (caught.value.hint or "")

    def test_words_want_a_list(self, tmp_path: Path) -> None:
        with pytest.raises(ConfigError, match="has no list"):
            CleaningConfig(clean=["words"])
        with pytest.raises(ConfigError, match="cannot be read"):
            Cleaner(CleaningConfig(words=[tmp_path / "nothing.txt"]))
        (tmp_path / "empty.txt").write_text("# nothing\n", encoding="utf-8")
        with pytest.raises(ConfigError, match="is empty"):
            Cleaner(CleaningConfig(words=[tmp_path / "empty.txt"]))


class TestUnicode:
    @pytest.mark.parametrize(
        ("text", "expected"),
        [
            ("一\r\n二\r三\u2028四\x0c五", "一\n二\n三\n四\n五"),
            ("零\u200b宽\ufeff，\x07\u202e控\xad制", "零宽，控制"),
            ("un\xa0espace\u2009fine", "un espace fine"),
            ("cafe\u0301", "café"),
            ("　　段首", "　　段首"),
            ("👩\u200d🚀", "👩\u200d🚀"),
            ("a\tb\nc", "a\tb\nc"),
        ],
    )
    def test_one_spelling(self, text: str, expected: str) -> None:
        assert mended(text, "unicode") == expected

    def test_what_was_done_is_counted(self) -> None:
        finding = clean("一\r\n二\r\n\u200b三", clean=["unicode"]).findings[0]
        assert finding.detail == "2 line ends, 1 unseen characters"
        assert finding.example == "一 二 \u200b三"


class TestBoilerplate:
    def test_the_frame_of_project_gutenberg(self) -> None:
        text = (
            "The Project Gutenberg EBook\n\n*** START OF THIS PROJECT GUTENBERG EBOOK X ***\n"
            "\nChapter 1\n\nText.\n\n*** END OF THIS PROJECT GUTENBERG EBOOK X ***\nLicence\n"
        )
        assert mended(text, "boilerplate") == "\nChapter 1\n\nText.\n\n"

    @pytest.mark.parametrize(
        "line",
        [
            "www.example-books.com",
            "https://example.com/a/b?c=1",
            "wＷw。shudian txt.neｔ［t.xt小，说［天堂｝",
            "ww　w.xＩaoshudian.。nettxt小＿说天/堂",
            "更多电子书请访问书香网",
            "本书由网友小明整理制作",
            "小说下载尽在www.shudian.com---某某整理",
            "---------用户上传之内容开始---------",
            "首页 | 上一页 | 下一页 | 返回目录",
            "京ICP备12345678号 版权所有",
            "We use cookies to give you the best experience.",
            "Home | About us | Privacy Policy | Terms of Use",
            "© 2019 Example Ltd. All rights reserved.",
            "Skip to main content",
        ],
    )
    def test_lines_that_go(self, line: str) -> None:
        assert mended(f"{PROSE_ZH}\n{line}\n{PROSE_EN}", "boilerplate") == f"{PROSE_ZH}\n{PROSE_EN}"

    @pytest.mark.parametrize(
        "line",
        [
            "我从网上下载了这本小说，读了一整夜。",
            "下一章将详细讨论由这些层组成的网络。",
            "可以从[官网](https://example.com/download)下载最新的版本。",
            "The privacy of the garden pleased her.",
            "www is short for World Wide Web, and everybody knows what it means by now.",
            "She wore a wwwide hat",
            "Sign the form at home and register at the desk.",
        ],
    )
    def test_lines_that_stay(self, line: str) -> None:
        text = f"{PROSE_ZH}\n{line}\n{PROSE_EN}"
        assert mended(text, "boilerplate") == text

    def test_a_conversation_may_speak_of_addresses(self) -> None:
        item = talk("Which site?", "https://example.com")
        assert clean(item, clean=["boilerplate"]) == Verdict(item)

    def test_a_document_of_nothing_else_is_filtered(self) -> None:
        assert mended("www.example-books.com\n", "boilerplate") is None

    def test_letters_that_grow_in_small_letters(self) -> None:
        assert [c for c in map(chr, range(0x110000)) if len(c.lower()) > 1] == ["İ"]
        text = f"{'İ' * 16} cookie\nLog in | COOKIE policy\nİyi"
        assert mended(text, "boilerplate") == f"{'İ' * 16} cookie\nİyi"


class TestLeaks:
    @pytest.mark.parametrize(
        "answer",
        [
            "Paris.\n### Instruction:\nName",
            "### Response:\nParis.",
            "Paris.<|im_end|>\nand",
            "好的。[/INST]",
            "Paris.</s>\nWhat",
            "Paris\n##\n10. Instruction: Rewrite",
            "11. Instruction: Rewrite",
            "<noinput>",
            "Human: hi\nAssistant: hello",
            "<reserved_102>",
            "a<start_of_turn>user",
            "### 回答：巴黎",
        ],
    )
    def test_leaks(self, answer: str) -> None:
        assert clean(talk("?", answer), clean=["leaks"]).item is None

    @pytest.mark.parametrize(
        "answer",
        [
            "### Step 1: Preheat\n### Ingredients:\n- eggs",
            "Human: Living\nCar: Non-Living",
            "<s>old</s> <b>new</b>",
            "x = a[INDEX]",
            "The instruction: read it.",
            "1. Instruction manuals are long.",
            "User: hi\nBot: hello",
        ],
    )
    def test_no_leaks(self, answer: str) -> None:
        item = talk("?", answer)
        assert clean(item, clean=["leaks"]) == Verdict(item)

    @pytest.mark.parametrize(
        ("answer", "left"),
        [
            ("\n\n### Response:\n\n### Response:\n多喝水。", "多喝水。"),
            ("Paris.<|im_end|></s>\n", "Paris."),
            ("Paris.\n##\n10. Instruction: Rewrite it.\n10. Output:\nx", "Paris."),
            ("Paris.\n\n7. Instruction: More\n8. Instruction: Still more", "Paris."),
            ("C#\n# #\n\n##\n\n## 10. Instruction: Rewrite", "C#"),
            ("Paris. <eos> <noinput>\n\n", "Paris."),
        ],
    )
    def test_certain_cuts(self, answer: str, left: str) -> None:
        verdict = clean(talk("?", answer), clean=["leaks"], leaks="mend")
        assert verdict.item == talk("?", left)

    def test_an_uncertain_cut_is_none(self) -> None:
        item = talk("?", "Paris.<|im_end|>\n<|im_start|>user\nand")
        assert clean(item, clean=["leaks"], leaks="mend").item is None

    def test_documents_may_speak_of_templates(self) -> None:
        assert mended("<|im_start|> begins a turn.", "leaks") == "<|im_start|> begins a turn."


class TestMeasures:
    def test_language(self) -> None:
        assert mended(PROSE_ZH, languages=["zh"]) == PROSE_ZH
        assert mended(PROSE_EN, languages=["zh"]) is None
        assert mended("Привет, как дела? Всё хорошо.", "language") is None
        assert clean(talk("2+3=?", "5"), languages=["zh"]).item is not None
        code = talk("Sum", "```python\ndef f(a, b):\n    return (a + b) * {}[a]\n```")
        assert clean(code, clean=["language"]).item is not None

    def test_the_language_of_a_row_is_that_of_all_its_texts(self) -> None:
        item = talk(
            "翻译成英文：今天天气很好，我们一起去公园散步。",
            "The weather is fine today, let us walk.",
        )
        assert clean(item, languages=["mixed"]).item == item
        assert clean(item, languages=["en"]).item is None

    def test_script(self) -> None:
        assert mended("头发和发展", script="traditional") == "頭髮和發展"
        assert mended("這個問題", script="simplified") == "这个问题"
        assert mended("乾坤", script="simplified") == "乾坤"
        assert mended("日本語の発音練習", script="simplified") == "日本語の発音練習"

    def test_length(self) -> None:
        assert mended("九个字不够用的哪", "length") is None
        assert mended("这里正好是十个汉字了", "length") == "这里正好是十个汉字了"
        assert mended("Too short.", "length") is None
        assert mended(PROSE_EN, max_chars=20) is None
        assert clean(talk("?", "是"), clean=["length"]).item is not None

    def test_symbols(self) -> None:
        assert mended("=-=-+*&^ 字 " * 30, "symbols") is None
        assert (
            mended("\n".join(f"- thing number {n} of many" for n in range(20)), "symbols") is None
        )
        assert mended("\n".join(f"read more about {n}…" for n in range(20)), "symbols") is None
        assert mended(PROSE_ZH * 4, "symbols") == PROSE_ZH * 4

    def test_repetition(self) -> None:
        varied = "\n".join(f"第{n}天：{PROSE_ZH[n : n + 20]}{n * n}次" for n in range(20))
        assert mended(PROSE_ZH * 8, "repetition") is None
        assert mended("buy this now " * 30, "repetition") is None
        assert mended(f"{varied}\n" + "点击这里立刻领取大奖\n" * 80, "repetition") is None
        code = "```\n" + "    x = x + 1\n" * 40 + "```\n"
        assert mended(PROSE_ZH + PROSE_EN * 2 + "\n" + code, max_repetition=0.9) is not None

    def test_a_phrase_that_comes_again_much_later_is_no_repetition(self) -> None:
        # Rare characters that never come twice keep the repeated sentence far apart.
        rare = "".join(map(chr, range(0x4E00, 0x4E00 + 18000)))
        chapters = [f"{PROSE_ZH}\n{rare[n : n + 6000]}" for n in (0, 6000, 12000)]
        assert mended("\n".join(chapters), max_repetition=0.01) is not None


class TestInstructions:
    @pytest.mark.parametrize(
        "text",
        [
            "Write a poem about the sea.\nThe sea is wide and blue.",
            "请将下面的句子翻译成英文。\n天气很好。\nThe weather is fine.",
            "中国的首都是哪里？\n北京。",
            "Below is an instruction that describes a task.\nDo it.",
            "问：天为什么是蓝的？\n答：因为散射。\n问：海呢？\n答：也是。",
            "1. 下列哪项正确？\nA. 一 B. 二 C. 三 D. 四\n答案：B",
            "<|im_start|>user\nhi<|im_end|>",
        ],
    )
    def test_instructions(self, text: str) -> None:
        assert mended(text, "instructions") is None

    @pytest.mark.parametrize(
        "text",
        [
            f"# 计算几何\n{PROSE_ZH}",
            f"计算机是一种机器。\n{PROSE_ZH}",
            f"What happened next?\n{PROSE_EN * 30}",
            PROSE_ZH,
            "Give me your hand, he said.",
            f"vocab = ['<bos>', '<eos>']\n{PROSE_ZH}",
        ],
    )
    def test_texts(self, text: str) -> None:
        assert mended(text, "instructions") == text

    def test_conversations_are_instructions_by_right(self) -> None:
        item = talk("Write a poem.", "The sea.\nThe sky.")
        assert clean(item, clean=["instructions"]) == Verdict(item)


class TestWords:
    @pytest.fixture
    def words(self, tmp_path: Path) -> list[Path]:
        file = tmp_path / "words.txt"
        file.write_text("# a list\nBad\nvery nasty\n坏东西\n乳\nＷＯＲＳＥ\n", encoding="utf-8")
        return [file]

    @pytest.mark.parametrize(
        "text",
        ["so BAD!", "very nasty indeed", "这个坏东西啊", "说：乳。", "ｗｏｒｓｅ still", "你bad吗"],
    )
    def test_found(self, text: str, words: list[Path]) -> None:
        assert mended(text, words=words) is None

    @pytest.mark.parametrize(
        "text", ["badly made", "a badge", "very, nasty", "牛乳很好", "坏的东西"]
    )
    def test_not_found(self, text: str, words: list[Path]) -> None:
        assert mended(text, words=words) == text

    def test_some_may_be_let_pass(self, words: list[Path]) -> None:
        assert mended("bad bad", words=words, max_words=2) == "bad bad"
        assert mended("bad bad bad", words=words, max_words=2) is None

    def test_a_text_is_no_entry(self, tmp_path: Path) -> None:
        (tmp_path / "list.txt").write_text(f"bad\n{'坏' * 600}\n", encoding="utf-8")
        with pytest.raises(ConfigError, match=r"list\.txt:2: an entry of 600 characters"):
            clean("good", words=[tmp_path / "list.txt"])
