"""Label configs as projects have them, and ways to break their XML."""

from collections.abc import Callable
from random import Random
from xml.etree import ElementTree

from .mutate import NUMBERS, TEXTS, hostile_leaf

IMAGE = '<Image name="image" value="$image" zoom="true"/>'
CONFIGS = tuple(  # as the label config reference has them
    " ".join(config.split())
    for config in (
        f"""<View>{IMAGE}<BrushLabels name="seg" toName="image" model_score_threshold="0.3">
        <Label value="red" background="#FF0000" predicted_values="red,blue" hint="a red thing"/>
        <Label value="green" alias="g"/></BrushLabels></View>""",
        f"""<View>{IMAGE}<PolygonLabels name="p" toName="image" model_instances="true"
        model_max_regions="5"><Label value="red"/><Label value="blue"/></PolygonLabels>
        <BitmaskLabels name="b" toName="image" model_background="" model_smooth="2">
        <Label value="green"/><Label value="Background" model_fill="true"/></BitmaskLabels>
        </View>""",
        f"""<View>{IMAGE}<Brush name="brush" toName="image"/><Labels name="l" toName="image">
        <Label value="red"/></Labels><VectorLabels name="v" toName="image" closable="true">
        <Label value="blue" model_min_area="0.2%"/></VectorLabels></View>""",
        f"""<View><Header value="What is there?"/>{IMAGE}<Taxonomy name="t" toName="image"
        model_fill="true"><Choice value="warm"><Choice value="red"/><Choice value="yellow"/>
        </Choice><Choice value="green"/></Taxonomy><Choices name="c" toName="image"
        choice="multiple" model_fill="true"><Choice value="red"/><Choice value="blue"/></Choices>
        </View>""",
        """<View><Image name="pages" valueList="$pages" model_page="$page"/><RectangleLabels
        name="r" toName="pages"><Label value="red"/></RectangleLabels><EllipseLabels name="e"
        toName="pages"><Label value="green" model_mask_threshold="0.4"/></EllipseLabels></View>""",
        f"""<View>{IMAGE}<BrushLabels name="seg" toName="image" value="$labels"/></View>""",
        f"""<View>{IMAGE}<BrushLabels name="seg" toName="image"
        model_prompt="a photo of a {{}}|{{}}"><Label value="red"/></BrushLabels>
        <KeyPointLabels name="kp" toName="image" smart="true">
        <Label value="red" smart="true"/></KeyPointLabels><RectangleLabels name="rc"
        toName="image" smart="true"><Label value="red"/></RectangleLabels></View>""",
    )
)
ATTRIBUTES = (
    "name", "toName", "value", "valueList", "alias", "hint", "smart", "perRegion", "choice",
    "predicted_values", "background", "score_threshold", "model_score_threshold", "model_skip",
    "model_mask_threshold", "model_background", "model_prompt", "model_method", "model_profile",
    "model_min_area", "model_holes", "model_smooth", "model_overlap", "model_instances",
    "model_max_regions", "model_fill", "model_page", "model_nonsense", "model_pth",
)  # fmt: skip
VALUES = (
    "true", "false", "0", "1", "1e-3", "0.2%", "nan%", "-1", "1001", "red", "red,red", ",,,", "|||",
    "a {} b|{}{}", "{0}", "$image", "$", "$labels", "cliper", "maskclip", "demo", "best", "image",
    "seg", "Background", "cls_03 - red", "03: red", "1_1_1_1_1_1", "red" * 60,
)  # fmt: skip
BEGIN = '<View><Image name="image" value="$image"/><BrushLabels name="seg" toName="image">'
END = "</BrushLabels></View>"
LABEL = '<Label value="red"/>'
LETTERS = (
    "&#0;", "&#xD800;", "&#x1F600;", "&#10;red", "&#xFFFE;", "&x;", "\0", "\ud800", "e\u0301" * 90,
    "\u202ered",
)  # fmt: skip
PROLOGUES = (
    '<?xml version="1.0" encoding="utf-16"?>', '<?xml version="1.0" encoding="bogus"?>',
    '<?xml version="9"?>', "\ufeff", "\ufeff\ufeff", "<!-- -- -->", "<?php ?>", " \n",
)  # fmt: skip
DEFINED = "<!DOCTYPE View [{}]><View>&x;</View>"
Bomb = Callable[[Random], str]


def _with_label(label: str) -> str:
    return BEGIN + label + END


def _label(attributes: str) -> str:
    return _with_label(LABEL.replace("/>", f" {attributes}/>"))


def _named(text: str) -> str:
    return _with_label(LABEL.replace("red", text))


def _laughs(random: Random) -> str:
    pairs = zip("abcdefgh", "bcdefghx", strict=True)
    lines = "".join(f'<!ENTITY {after} "{f"&{before};" * 10}">' for before, after in pairs)
    return DEFINED.format(f'<!ENTITY a "aaaaaaaaaa">{lines}')


def _deep_choices(random: Random) -> str:
    many = random.choice((20, 900))
    begin = BEGIN.replace("BrushLabels", "Taxonomy").replace(
        "<Taxonomy", '<Taxonomy model_fill="1"'
    )
    choices = '<Choice value="red">' * many + "</Choice>" * many
    return f"{begin}{choices}</Taxonomy></View>"


def _many_attributes(random: Random) -> str:
    return _label("".join(f'model_a{n}="1" ' for n in range(random.choice((50, 40_000)))))


def _many_labels(random: Random) -> str:
    many = range(random.choice((101, 2_500, 18_000)))
    return _with_label("".join(f'<Label value="red{n}" predicted_values="red"/>' for n in many))


def _many_controls(random: Random) -> str:
    inside = f'toName="image">{LABEL}</BrushLabels>'
    many = range(random.choice((3, 201, 11_000)))
    return _with_label(
        LABEL + "</BrushLabels>" + "".join(f'<BrushLabels name="s{n}" {inside}' for n in many)
    ).replace(f"{END}{END}", END)


def _many_pairs(random: Random) -> str:
    """Controls that look for their Labels tag among as many that are not theirs."""
    many = range(random.choice((3, 190, 9_000)))
    pairs = "".join(
        f'<Brush name="s{n}" toName="image"/><Labels name="l{n}" toName="y"/>' for n in many
    )
    return f"{BEGIN}{LABEL}</BrushLabels>{pairs}</View>"


BOMBS: tuple[Bomb, ...] = (
    _laughs,
    lambda random: DEFINED.format(f'<!ENTITY x "{"A" * 50_000}">') + "&x;" * 1000,
    lambda random: DEFINED.format('<!ENTITY x SYSTEM "file:///etc/passwd">'),
    lambda random: DEFINED.format('<!ENTITY x SYSTEM "http://127.0.0.1:1/">'),
    lambda random: DEFINED.format('<!ENTITY % x SYSTEM "http://127.0.0.1:1/">%x;'),
    lambda random: '<!DOCTYPE View SYSTEM "http://127.0.0.1:1/a.dtd">' + CONFIGS[0],
    lambda random: "<View>" * (n := random.choice((90, 300, 2_000, 100_000))) + "</View>" * n,
    lambda random: _with_label(
        "<View>" * (n := random.choice((90, 900, 5_000))) + LABEL + "</View>" * n
    ),
    _deep_choices,
    lambda random: _named("r" * random.choice((300, 30_000, 990_000))),
    lambda random: _with_label(LABEL).replace("seg", "s" * random.choice((300, 900_000))),
    lambda random: _with_label(LABEL).replace("$image", "$" + "i" * random.choice((300, 900_000))),
    lambda random: _label(f'{"x" * 900_000}="1"'),
    lambda random: _label(f'model_{"x" * random.choice((300, 900_000))}="1"'),
    _many_attributes,
    _many_labels,
    _many_controls,
    _many_pairs,
    lambda random: _label(f'predicted_values="{"red," * random.choice((49, 51, 200_000))}"'),
    lambda random: _label(f'model_prompt="{"a {} |" * random.choice((99, 101, 100_000))}"'),
    lambda random: _with_label(LABEL).replace(
        'toName="image"',
        f'toName="image" model_background="{"red," * random.choice((60, 200_000))}"',
    ),
    lambda random: _named(random.choice(("(((" * 66, "1_" * 99, "a-" * 99, "[1" * 99, " . " * 66))),
    lambda random: _named(random.choice(LETTERS)),
    lambda random: random.choice(PROLOGUES) + CONFIGS[0],
    lambda random: _with_label(f"<![CDATA[{'<Label/>' * 10}]]><!-- {LABEL} --><?a b?>{LABEL}"),
    lambda random: CONFIGS[0].replace("<View>", '<View xmlns="urn:x" xmlns:y="urn:y" y:name="i">'),
    lambda random: CONFIGS[0].replace("<Image ", "<Image a='1' a='2' "),
    lambda random: CONFIGS[0] * 2,
    lambda random: " " * random.choice((1, 1_000_001)),
)


def hostile_config(random: Random) -> str:
    """A config with something wrong in it, or a bomb."""
    pick = random.random()
    if pick < 0.15:
        return random.choice(BOMBS)(random)
    config = random.choice(CONFIGS)
    if pick < 0.3:
        return _text_mutated(config, random)
    root = ElementTree.fromstring(config)
    for _ in range(random.randint(1, 4)):
        _change(root, random)
    return ElementTree.tostring(root, encoding="unicode")


def _change(root: ElementTree.Element, random: Random) -> None:
    parents = [one for one in root.iter() if len(one)]
    one = random.choice(list(root.iter()))
    match random.randrange(8):
        case 0 | 1 | 2:
            one.set(random.choice(ATTRIBUTES), _value(random))
        case 3:
            if one.attrib:
                one.set(random.choice(list(one.attrib)), _value(random))
        case 4:
            if one.attrib:
                del one.attrib[random.choice(list(one.attrib))]
        case 5:
            if parents:
                parent = random.choice(parents)
                parent.append(random.choice(list(parent)))  # the same twice
        case 6:
            if parents:
                parent = random.choice(parents)
                parent.remove(random.choice(list(parent)))
        case _:
            one.tag = random.choice(
                (
                    "Image",
                    "Label",
                    "Choice",
                    "Labels",
                    "Brush",
                    "Video",
                    "View",
                    "BRUSHLABELS",
                    "Style",
                )
            )


def _value(random: Random) -> str:
    text = random.choice(
        (random.choice(VALUES), random.choice(TEXTS), str(random.choice(NUMBERS[:-7])))
    )
    return text if random.random() < 0.9 else str(hostile_leaf(random))[:3000]


def _text_mutated(config: str, random: Random) -> str:
    for _ in range(random.randint(1, 3)):
        at = random.randrange(len(config) + 1)
        config = random.choice(
            (
                config[:at] + config[at + random.choice((1, 5, 40)) :],
                config[:at] + random.choice(('"', "<", ">", "&", "\0", "é", "]]>")) + config[at:],
                config[:at],
                config[:at] + config[max(0, at - 40) :],
            )
        )  # fmt: skip
    return config
