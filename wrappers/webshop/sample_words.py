"""The words of the sample catalogue: brands, option pools, and 25 categories with their attributes."""

from __future__ import annotations

from dataclasses import dataclass

_BRAND_TEXT = (
    "Abelline Alderis Amberly Arborne Ashwick Avelor Bellmont Brackley Bramford Brightell Calloway Cedrian Corvane "
    "Dalemoor Dunmere Eastvale Edelmar Elmsworth Fairlow Fenbrook Ferndale Florian Gallowen Glenmor Halvert Harborne "
    "Hazelton Ivorex Jasperly Kelwood Kestrin Kindale Larkspur Lindmark Lorvane Marlowe Meadowen Merrick Norvale "
    "Oakhurst Orlindo Osprey Pembroke Penrith Quillon Ravenna Redmoor Rowanly Sablewood Selmont Silvane Stonell "
    "Talbrook Thornby Tolmere Umbrell Valmore Verdane Westerly Wyndham"
)
BRANDS = _BRAND_TEXT.split()

COLORS = [
    "navy",
    "red",
    "black",
    "white",
    "grey",
    "beige",
    "teal",
    "olive",
    "ivory",
    "pink",
    "purple",
    "orange",
    "yellow",
    "brown",
    "green",
    "blue",
]
CLOTHES = ["small", "medium", "large", "xl", "xxl"]
SHOES = ["6", "7", "8", "9", "10", "11", "12"]
PACKS = ["single", "two-pack", "four-pack", "six-pack", "dozen"]
OUNCES = ["4oz", "8oz", "12oz", "16oz", "32oz"]
SCENTS = ["lavender", "citrus", "jasmine", "vanilla", "cedar", "unscented"]
STYLES = ["classic", "modern", "vintage", "striped", "floral", "plain"]


@dataclass(frozen=True)
class Category:
    """`phrase` stands in titles and instructions alike; `prices` are the band's ends in dollars."""

    phrase: str
    top: str
    path: str
    prices: tuple[float, float]
    options: dict[str, list[str]]
    attributes: str
    facts: str


def _garden(phrase: str, path: str, prices: tuple[float, float], attributes: str, facts: str, **more: str) -> Category:
    options = {"color": COLORS} | {name: values.split() for name, values in more.items()}
    return Category(phrase, "garden", f"Home & Kitchen › {path}", prices, options, attributes, facts)


def _fashion(phrase: str, path: str, prices: tuple[float, float], attributes: str, facts: str) -> Category:
    sizes = SHOES if "Shoes" in path else CLOTHES
    options = {"color": COLORS, "size": sizes}
    return Category(phrase, "fashion", f"Clothing & Jewelry › {path}", prices, options, attributes, facts)


def _grocery(phrase: str, path: str, prices: tuple[float, float], attributes: str, facts: str, flavor: str) -> Category:
    options = {"flavor": flavor.split(), "size": OUNCES, "count": PACKS}
    return Category(phrase, "grocery", f"Grocery & Gourmet Food › {path}", prices, options, attributes, facts)


def _beauty(phrase: str, path: str, prices: tuple[float, float], attributes: str, facts: str, **more: str) -> Category:
    options = {name: values.split() for name, values in more.items()} or {"scent": SCENTS}
    options["count"] = PACKS
    return Category(phrase, "beauty", f"Beauty & Personal Care › {path}", prices, options, attributes, facts)


def _electronics(
    phrase: str, path: str, prices: tuple[float, float], attributes: str, facts: str, **more: str
) -> Category:
    options = {"color": COLORS} | {name: values.split() for name, values in more.items()}
    return Category(phrase, "electronics", f"Electronics › {path}", prices, options, attributes, facts)


CATEGORIES = (
    _garden(
        "throw pillow covers",
        "Bedding › Decorative Pillows",
        (6, 50),
        "machine-washable double-sided fade-resistant hidden-zipper "
        "super-soft hypoallergenic hand-stitched eco-friendly",
        "Fits a common square insert|Sewn from woven cotton|Insert not included",
        size="16in 18in 20in 24in",
        style=" ".join(STYLES),
    ),
    _garden(
        "desk lamps",
        "Lighting › Lamps",
        (12, 100),
        "dimmable energy-efficient space-saving height-adjustable flicker-free cordless touch-control memory-function",
        "Stands on a weighted base|Lights a whole desk|Bulb included",
        style=" ".join(STYLES),
    ),
    _garden(
        "area rugs",
        "Home Decor › Rugs",
        (25, 150),
        "non-slip stain-resistant machine-washable pet-friendly fade-resistant low-pile hand-woven easy-clean",
        "Lies flat out of the box|Made for living rooms and bedrooms|Vacuum on a low setting",
        size="2x3 4x6 5x8 8x10",
    ),
    _garden(
        "storage baskets",
        "Storage › Baskets",
        (9, 60),
        "foldable hand-woven space-saving heavy-duty eco-friendly stackable easy-clean rustproof",
        "Holds toys, towels or books|Two handles for carrying|Keeps its shape when full",
        count=" ".join(PACKS),
        style=" ".join(STYLES),
    ),
    _garden(
        "bath towels",
        "Bath › Towels",
        (10, 70),
        "quick-drying super-soft lint-free machine-washable "
        "highly-absorbent fade-resistant organic-cotton hypoallergenic",
        "Woven from long fibers|Double hem on every edge|Gets softer with each wash",
        count=" ".join(PACKS),
    ),
    _fashion(
        "running shoes",
        "Shoes › Athletic",
        (25, 150),
        "slip-resistant lightweight breathable arch-support shock-absorbing wide-toe memory-foam reflective",
        "Laces up over a padded tongue|Made for roads and treadmills|Rubber outsole",
    ),
    _fashion(
        "hiking boots",
        "Shoes › Outdoor",
        (40, 150),
        "waterproof ankle-support slip-resistant insulated steel-toe lightweight quick-lacing memory-foam",
        "Deep lugs for muddy trails|Stitched by hand|Break in over a week",
    ),
    _fashion(
        "yoga pants",
        "Women › Active",
        (12, 80),
        "high-waisted moisture-wicking four-way-stretch tummy-control "
        "squat-proof side-pockets quick-drying wrinkle-free",
        "Cut close to the leg|Flat seams do not rub|For the mat or the street",
    ),
    _fashion(
        "rain jackets",
        "Outerwear › Jackets",
        (25, 140),
        "waterproof windproof packable hooded breathable reflective machine-washable lightweight",
        "Zips up to the chin|Elastic cuffs keep water out|Two front pockets",
    ),
    _fashion(
        "crew socks",
        "Accessories › Socks",
        (5, 40),
        "moisture-wicking arch-support odor-resistant seamless cushioned breathable organic-cotton machine-washable",
        "Reaches above the ankle|Knit from a soft blend|Stays up all day",
    ),
    _grocery(
        "trail mix",
        "Snacks › Nuts & Seeds",
        (5, 50),
        "gluten-free non-gmo low-sodium dairy-free resealable plant-based high-protein kosher",
        "Nuts, seeds and dried fruit|Packed in small batches|Store in a cool place",
        "tropical mountain honey cherry spicy",
    ),
    _grocery(
        "protein bars",
        "Snacks › Bars",
        (6, 60),
        "high-protein low-sugar gluten-free keto-friendly plant-based soy-free non-gmo nut-free",
        "One bar makes a snack|Baked, not fried|Made for gym bags",
        "chocolate vanilla banana caramel coconut",
    ),
    _grocery(
        "green tea",
        "Beverages › Tea",
        (5, 45),
        "caffeine-free fair-trade usda-organic sugar-free hand-picked individually-wrapped antioxidant-rich non-gmo",
        "Steep for three minutes|Grown on high slopes|Good hot or iced",
        "jasmine lemon ginger peach original",
    ),
    _grocery(
        "ground coffee",
        "Beverages › Coffee",
        (7, 60),
        "low-acid fair-trade single-origin usda-organic decaffeinated slow-roasted kosher resealable",
        "Ground for drip and press|Roasted to order|Notes of nut and cocoa",
        "hazelnut vanilla original caramel",
    ),
    _grocery(
        "potato chips",
        "Snacks › Chips",
        (5, 40),
        "gluten-free kettle-cooked low-sodium non-gmo cholesterol-free air-fried kosher plant-based",
        "Cut thick from whole potatoes|Crisp to the last bite|Seasoned on both sides",
        "barbecue ranch jalapeno original truffle",
    ),
    _beauty(
        "face cream",
        "Skin Care › Face",
        (8, 90),
        "fragrance-free paraben-free cruelty-free anti-aging long-lasting hydrating dermatologist-tested non-greasy",
        "Use in the morning and at night|Sinks in within a minute|Comes with a lid",
        size=" ".join(OUNCES[:4]),
        scent=" ".join(SCENTS),
    ),
    _beauty(
        "hair oil",
        "Hair Care › Oils",
        (6, 60),
        "sulfate-free cruelty-free paraben-free heat-protecting anti-frizz cold-pressed non-greasy vegan",
        "A few drops are enough|For wet or dry hair|Glass bottle with a dropper",
        size=" ".join(OUNCES[:4]),
        scent=" ".join(SCENTS),
    ),
    _beauty(
        "lip balm",
        "Skin Care › Lips",
        (5, 40),
        "fragrance-free long-lasting cruelty-free sun-protecting petroleum-free hydrating vegan tinted",
        "Twist up and apply|Fits in any pocket|Melts on the lips",
        flavor="cherry honey coconut original",
    ),
    _beauty(
        "makeup brushes",
        "Tools › Brushes",
        (7, 70),
        "cruelty-free easy-clean travel-size hypoallergenic super-soft eco-friendly shed-free hand-crafted",
        "For powder, cream and liquid|Metal ring holds the hair|Dry flat after washing",
        color=" ".join(COLORS),
    ),
    _beauty(
        "bath bombs",
        "Bath › Additives",
        (6, 50),
        "hand-crafted cruelty-free stain-free skin-softening vegan individually-wrapped paraben-free petroleum-free",
        "Drop into warm water|Fizzes for four minutes|A gift for any day",
    ),
    _electronics(
        "phone cases",
        "Accessories › Cases",
        (7, 60),
        "shockproof magnet-ready scratch-resistant slim-fit drop-tested anti-yellowing non-slip eco-friendly",
        "Raised edges guard the lens|All ports stay open|Snaps on in seconds",
        style=" ".join(STYLES),
    ),
    _electronics(
        "bluetooth speakers",
        "Audio › Speakers",
        (15, 150),
        "waterproof hands-free fast-charging stereo-sound shockproof lightweight bass-boosting voice-control",
        "Pairs with any phone|Plays for a full day|Strap included",
        style=" ".join(STYLES),
    ),
    _electronics(
        "wireless earbuds",
        "Audio › Headphones",
        (15, 150),
        "noise-cancelling fast-charging sweatproof touch-control hands-free low-latency lightweight voice-control",
        "Three sizes of tips|Case charges them again|Pairs when taken out",
    ),
    _electronics(
        "charging cables",
        "Accessories › Cables",
        (5, 40),
        "fast-charging tangle-free nylon-braided heavy-duty gold-plated reversible data-sync eco-friendly",
        "Works with phones and tablets|Tested for many bends|Comes with a strap",
        length="3ft 6ft 10ft",
        count=" ".join(PACKS),
    ),
    _electronics(
        "security cameras",
        "Surveillance › Cameras",
        (25, 150),
        "night-vision motion-detecting weatherproof two-way-audio "
        "wall-mounted cloud-storage solar-powered easy-install",
        "Watches a whole room or yard|Alerts your phone|Screws included",
        count=" ".join(PACKS),
    ),
)
