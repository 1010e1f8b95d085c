"""Label configs as projects have them, and ways to break their XML."""

from random import Random
from xml.etree import ElementTree

from .mutate import NUMBERS, TEXTS, hostile_leaf

CONFIGS = (
    '<View><Image name="image" value="$image" zoom="true"/><BrushLabels name="seg" toName="image" '
    'model_score_threshold="0.3"><Label value="red" background="#FF0000" predicted_values="red,blue"'
    ' hint="a red thing"/><Label value="green" alias="g"/></BrushLabels></View>',
    '<View><Image name="image" value="$image"/><PolygonLabels name="p" toName="image" model_instances'
    '="true" model_max_regions="5"><Label value="red"/><Label value="blue"/></PolygonLabels>'
    '<BitmaskLabels name="b" toName="image" model_background="" model_smooth="2"><Label value="green"/>'
    '<Label value="Background" model_fill="true"/></BitmaskLabels></View>',
    '<View><Image name="image" value="$image"/><Brush name="brush" toName="image"/><Labels name="l" '
    'toName="image"><Label value="red"/></Labels><VectorLabels name="v" toName="image" closable="true">'
    '<Label value="blue" model_min_area="0.2%"/></VectorLabels></View>',
    '<View><Header value="What is there?"/><Image name="image" value="$image"/><Taxonomy name="t" '
    'toName="image" model_fill="true"><Choice value="warm"><Choice value="red"/><Choice value="yellow"/>'
    '</Choice><Choice value="green"/></Taxonomy><Choices name="c" toName="image" choice="multiple" '
    'model_fill="true"><Choice value="red"/><Choice value="blue"/></Choices></View>',
    '<View><Image name="pages" valueList="$pages" model_page="$page"/><RectangleLabels name="r" '
    'toName="pages"><Label value="red"/></RectangleLabels><EllipseLabels name="e" toName="pages">'
    '<Label value="green" model_mask_threshold="0.4"/></EllipseLabels></View>',
    '<View><Image name="image" value="$image"/><BrushLabels name="seg" toName="image" value="$labels"/>'
    "</View>",
    '<View><Image name="image" value="$image"/><BrushLabels name="seg" toName="image" model_prompt='
    '"a photo of a {}|{}"><Label value="red"/></BrushLabels><KeyPointLabels name="kp" toName="image" '
    'smart="true"><Label value="red" smart="true"/></KeyPointLabels><RectangleLabels name="rc" '
    'toName="image" smart="true"><Label value="red"/></RectangleLabels></View>',
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
DEFINED = "<!DOCTYPE View [{}]><View>&x;</View>"
BOMBS = (
    lambda random: DEFINED.format(
        '<!ENTITY a "aaaaaaaaaa">'
        + "".join(
            f'<!ENTITY {b} "{f"&{a};" * 10}">' for a, b in zip("abcdefgh", "bcdefghx", strict=True)
        )
    ),
    lambda random: DEFINED.format(f'<!ENTITY x "{"A" * 50_000}">') + "&x;" * 1000,
    lambda random: DEFINED.format('<!ENTITY x SYSTEM "file:///etc/passwd">'),
    lambda random: DEFINED.format('<!ENTITY x SYSTEM "http://127.0.0.1:1/">'),
    lambda random: DEFINED.format('<!ENTITY % x SYSTEM "http://127.0.0.1:1/">%x;'),
    lambda random: '<!DOCTYPE View SYSTEM "http://127.0.0.1:1/a.dtd">' + CONFIGS[0],
    lambda random: "<View>" * (n := random.choice((90, 300, 2_000, 100_000))) + "</View>" * n,
    lambda random: BEGIN + "<View>" * (n := random.choice((90, 900, 5_000))) + LABEL + "</View>" * n + END,
    lambda random: BEGIN.replace("BrushLabels", "Taxonomy").replace('name="seg"', 'name="seg" model_fill="true"')
    + '<Choice value="red">' * (n := random.choice((20, 900))) + "</Choice>" * n + "</Taxonomy></View>",
    lambda random: BEGIN + LABEL.replace("red", "r" * random.choice((300, 30_000, 990_000))) + END,
    lambda random: BEGIN.replace("seg", "s" * random.choice((300, 900_000))) + LABEL + END,
    lambda random: BEGIN.replace("$image", "$" + "i" * random.choice((300, 900_000))) + LABEL + END,
    lambda random: BEGIN + LABEL.replace("/>", f' {"x" * 900_000}="1"/>') + END,
    lambda random: BEGIN + LABEL.replace("/>", f' model_{"x" * random.choice((300, 900_000))}="1"/>') + END,
    lambda random: BEGIN + "<Label " + "".join(f'model_a{n}="1" ' for n in range(random.choice((50, 40_000)))) + 'value="red"/>' + END,
    lambda random: BEGIN + "".join(f'<Label value="red{n}" predicted_values="red"/>' for n in range(random.choice((101, 2_500, 18_000)))) + END,
    lambda random: BEGIN + LABEL + "</BrushLabels>" + "".join(
        f'<BrushLabels name="s{n}" toName="image">{LABEL}</BrushLabels>' for n in range(random.choice((3, 101, 11_000)))
    ) + "</View>",
    lambda random: BEGIN + LABEL + "</BrushLabels>" + "".join(
        f'<Brush name="s{n}" toName="image"/><Labels name="l{n}" toName="y"/>' for n in range(random.choice((3, 12_000)))
    ) + "</View>",
    lambda random: BEGIN + LABEL.replace("/>", f' predicted_values="{"red," * random.choice((49, 51, 200_000))}"/>') + END,
    lambda random: BEGIN + LABEL.replace("/>", f' model_prompt="{"a {} |" * random.choice((99, 101, 100_000))}"/>') + END,
    lambda random: BEGIN.replace('toName="image"', f'toName="image" model_background="{"red," * random.choice((60, 200_000))}"') + LABEL + END,
    lambda random: BEGIN + LABEL.replace("red", random.choice(("(((" * 66, "1_" * 99, "a-" * 99, "[1" * 99, " . " * 66))) + END,
    lambda random: BEGIN + LABEL.replace("red", random.choice(("&#0;", "&#xD800;", "&#x1F600;", "&#10;red", "&#xFFFE;", "&x;", "\0", "\ud800", "e\u0301" * 90, "\u202ered"))) + END,
    lambda random: random.choice(('<?xml version="1.0" encoding="utf-16"?>', '<?xml version="1.0" encoding="bogus"?>', '<?xml version="9"?>', "\ufeff", "\ufeff\ufeff", "<!-- -- -->", "<?php ?>", " \n")) + CONFIGS[0],
    lambda random: BEGIN + f"<![CDATA[{'<Label/>' * 10}]]><!-- {LABEL} --><?a b?>" + LABEL + END,
    lambda random: CONFIGS[0].replace("<View>", '<View xmlns="urn:x" xmlns:y="urn:y" y:name="image">'),
    lambda random: CONFIGS[0].replace("<Image ", "<Image a='1' a='2' "),
    lambda random: CONFIGS[0] * 2,
    lambda random: " " * random.choice((1, 1_000_001)),
)  # fmt: skip


def hostile_config(random: Random) -> str:
    """A config with something wrong in it, or a bomb."""
    pick = random.random()
    if pick < 0.15:
        made: str = random.choice(BOMBS)(random)
        return made
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
                config[:at] + random.choice(('"', "<", ">", "&", "\0", "\x0b", "é", "]]>", "<!--")) + config[at:],
                config[:at],
                config[:at] + config[max(0, at - 40) :],
            )
        )  # fmt: skip
    return config
