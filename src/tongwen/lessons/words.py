"""The words of the lessons' small world, in both languages side by side."""

from __future__ import annotations

from typing import Final, NamedTuple


class Pair(NamedTuple):
    """The same thing in Chinese and in English."""

    zh: str
    en: str


class Noun(NamedTuple):
    """A thing with its Chinese measure word."""

    zh: str
    en: str
    measure: str


def _pairs(text: str) -> tuple[Pair, ...]:
    return tuple(Pair(*item.split("=")) for item in text.split("|"))


SUBJECTS: Final = _pairs(
    "猫=the cat|狗=the dog|女孩=the girl|男孩=the boy|老师=the teacher|医生=the doctor"
    "|农民=the farmer|我父亲=my father|我母亲=my mother|学生=the student|老人=the old man"
    "|画家=the painter"
)
VERBS: Final = _pairs(
    "看见=sees|喜欢=likes|买了=buys|找到=finds|画了=draws|想要=wants|带来=brings|忘了=forgets"
)
ADJECTIVES: Final = _pairs("红=red|蓝=blue|黑=black|白=white|大=big|小=small|旧=old|新=new")
NOUNS: Final = (
    Noun("苹果", "apple", "个"),
    Noun("书", "book", "本"),
    Noun("鱼", "fish", "条"),
    Noun("鸟", "bird", "只"),
    Noun("地图", "map", "张"),
    Noun("椅子", "chair", "把"),
    Noun("车", "car", "辆"),
    Noun("花", "flower", "朵"),
    Noun("信", "letter", "封"),
    Noun("帽子", "hat", "顶"),
)
TIMES: Final = _pairs(
    "=|今天=today|每天=every day|早上=in the morning|晚上=at night|春天=in spring"
)
PLACES: Final = _pairs(
    "=|在花园里=in the garden|在学校里=in the school|在河边=by the river|在车站=at the station"
    "|在厨房里=in the kitchen|在山上=on the hill"
)

FIRST_NAMES: Final = (
    "Anna Tom Ruth Peter Clara Henry Emma Jack Lucy Oscar Nora Felix Alice Simon Grace Leo "
    "Hanna David Julia Martin"
).split()
LAST_NAMES: Final = (
    "Reed Kline Moss Hart Fox Lane Stone Wood Bell Cole Page Snow Marsh Field Brook Hill"
).split()
SURNAMES: Final = "王 李 张 刘 陈 杨 赵 黄 周 吴 徐 孙 马 朱 胡 林".split()
GIVEN_NAMES: Final = "明 红 伟 芳 强 静 磊 丽 军 雪 勇 梅 超 兰 刚 玉 平 云 海 春".split()

CITIES: Final = _pairs(
    "巴黎=Paris|北京=Beijing|柏林=Berlin|成都=Chengdu|伦敦=London|上海=Shanghai|罗马=Rome"
    "|杭州=Hangzhou|开罗=Cairo|西安=Xi'an|东京=Tokyo|南京=Nanjing"
)
JOBS: Final = _pairs(
    "医生=a doctor|老师=a teacher|厨师=a cook|画家=a painter|司机=a driver|农民=a farmer"
    "|护士=a nurse|工程师=an engineer|律师=a lawyer|作家=a writer"
)
FOODS: Final = _pairs(
    "米饭=rice|面条=noodles|苹果=apples|鱼=fish|蛋糕=cake|面包=bread|鸡蛋=eggs|豆腐=tofu"
    "|西瓜=melons|汤=soup"
)
PETS: Final = _pairs(
    "一只猫=a cat|一条狗=a dog|一只鸟=a bird|一匹马=a horse|一条鱼=a fish|一只兔子=a rabbit"
)
THINGS: Final = _pairs(
    "苹果=apple|河=river|地图=map|太阳=sun|月亮=moon|桥=bridge|茶=tea|石头=stone|雪=snow|树=tree"
    "|门=door|船=boat|云=cloud|灯=lamp|鼓=drum|钟=clock|纸=paper|盐=salt|路=road|星星=star"
)
COLOURS: Final = _pairs("红色=red|蓝色=blue|绿色=green|黄色=yellow|白色=white|黑色=black")
CONTAINERS: Final = _pairs("箱子=box|房间=room|柜子=cabinet|大门=gate|保险柜=safe")
SECRETS: Final = _pairs(
    "密码=password|银行卡号=bank card number|身份证号=identity card number|家庭住址=home address"
    "|电话号码=phone number|私人信件=private letters"
)
