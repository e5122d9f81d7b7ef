"""Chinese radicals that stand where ordinary characters are meant, as many PDFs have them.

U+2F00–U+2FD5 (Kangxi radicals) have compatibility decompositions. Of U+2E80–U+2EF3 (radicals
supplement) only two have; the others follow the `Equivalent_Unified_Ideograph` property of Unicode.
Nothing else is normalised: full-width letters and punctuation stay as they are.
"""

from __future__ import annotations

import unicodedata
from typing import Final

SUPPLEMENT: Final = (
    "⺁厂⺂乛⺃乚⺄乙⺅亻⺆冂⺇𠘨⺈刀⺉刂⺊卜⺋㔾⺌小⺍小⺎兀⺏尣⺐尢⺑𡯂⺒巳⺓幺⺔彑⺕彐⺖忄⺗心⺘扌⺙攵⺛旡⺜日⺝月⺞歺⺟母⺠民⺡氵"
    "⺢氺⺣灬⺤爫⺥爫⺦丬⺧牛⺨犭⺩王⺪𤴔⺫目⺬示⺭礻⺮𥫗⺯糹⺰纟⺱罓⺲罒⺳㓁⺴冗⺵𦉫⺶羊⺷𦍌⺸𦍋⺹耂⺺肀⺻聿⺼肉⺽𦥑⺾艹⺿艹⻀艹"
    "⻁虎⻂衤⻃覀⻄西⻅见⻆角⻇𧢲⻈讠⻉贝⻊𧾷⻋车⻌辶⻍辶⻎辶⻏邑⻐钅⻑長⻒镸⻓长⻔门⻕𨸏⻖阝⻗雨⻘青⻙韦⻚页⻛风⻜飞⻝食⻞𩙿⻟飠⻠饣"
    "⻡𩠐⻢马⻣骨⻤鬼⻥鱼⻦鸟⻧卤⻨麦⻩黄⻪黾⻫斉⻬齐⻭歯⻮齿⻯竜⻰龙⻱龜⻲亀⻳龟"
)
"""Each radical with the character that it stands for."""
PLAIN: Final = {
    **{code: unicodedata.normalize("NFKC", chr(code)) for code in range(0x2F00, 0x2FD6)},
    **dict(zip(map(ord, SUPPLEMENT[::2]), SUPPLEMENT[1::2], strict=True)),
}


def plain_radicals(text: str) -> str:
    """The text with ordinary characters in the place of radicals: ⼜⽤⻅ becomes 又用见."""
    return text.translate(PLAIN)
