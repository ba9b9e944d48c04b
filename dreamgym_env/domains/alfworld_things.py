"""What ALFWorld's things are: which go where, what can be done with them, and how the game lists them.

The tables are those of `alfworld/gen/constants.py` (ALFRED, MIT licence) with types in lower case; a test holds them
against an installed `alfworld`, which the dream itself does not need.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

_SMALL = "alarmclock basketball book bowl box candle cd cellphone cloth creditcard cup glassbottle keychain laptop mug"
_SMALL += " newspaper pen pencil plate remotecontrol spraybottle statue tennisracket tissuebox toiletpaper"
_SMALL += " toiletpaperroll vase watch wateringcan winebottle"
_TABLE = _SMALL + " apple baseballbat bread butterknife dishsponge egg fork handtowel kettle knife ladle lettuce pan"
_TABLE += " papertowel peppershaker pot potato saltshaker soapbar soapbottle spatula spoon tomato"
_SEAT = "basketball book box cellphone cloth creditcard keychain laptop newspaper pillow remotecontrol"
_BATH = "candle cloth dishsponge handtowel papertowel soapbar soapbottle spraybottle tissuebox toiletpaper"
_BATH += " toiletpaperroll"
_FOOD = "apple bowl bread cup egg glassbottle mug plate potato tomato"
_ACCEPTS = {
    "armchair": _SEAT,
    "bathtubbasin": "cloth dishsponge handtowel soapbar",
    "bed": "baseballbat basketball book cellphone laptop newspaper pillow tennisracket",
    "cabinet": "book bowl box candle cd cloth cup dishsponge glassbottle handtowel kettle ladle mug newspaper pan"
    " peppershaker plate plunger pot saltshaker soapbar soapbottle spraybottle tissuebox toiletpaper toiletpaperroll"
    " vase wateringcan winebottle",
    "cart": f"{_BATH} mug plunger statue vase",
    "coffeemachine": "mug",
    "coffeetable": _TABLE,
    "countertop": _TABLE,
    "desk": f"{_SMALL} soapbottle",
    "diningtable": _TABLE,
    "drawer": "book butterknife candle cd cellphone cloth creditcard dishsponge fork handtowel keychain knife ladle"
    " newspaper pen pencil peppershaker remotecontrol saltshaker soapbar soapbottle spatula spoon spraybottle tissuebox"
    " toiletpaper toiletpaperroll watch wateringcan",
    "dresser": _SMALL,
    "fridge": f"{_FOOD} lettuce pan pot winebottle",
    "garbagecan": "apple bread cd cloth dishsponge egg handtowel lettuce newspaper papertowel pen pencil potato soapbar"
    " soapbottle spraybottle tissuebox toiletpaper toiletpaperroll tomato winebottle",
    "handtowelholder": "handtowel",
    "laundryhamper": "cloth",
    "microwave": _FOOD,
    "ottoman": _SEAT,
    "safe": "cd cellphone creditcard keychain statue vase watch",
    "shelf": "alarmclock book bowl box candle cd cellphone cloth creditcard cup dishsponge glassbottle handtowel kettle"
    " keychain mug newspaper papertowel pen pencil peppershaker plate pot remotecontrol saltshaker soapbar soapbottle"
    " spraybottle statue tissuebox toiletpaper toiletpaperroll vase watch wateringcan winebottle",
    "sidetable": _TABLE,
    "sinkbasin": "apple bowl butterknife cloth cup dishsponge egg fork glassbottle handtowel kettle knife ladle lettuce"
    " mug pan plate pot potato soapbar spatula spoon tomato",
    "sofa": _SEAT,
    "stoveburner": "kettle pan pot",
    "toaster": "",
    "toilet": f"{_BATH} newspaper",
    "toiletpaperhanger": "toiletpaper toiletpaperroll",
    "towelholder": "towel",
    "tvstand": "tissuebox",
}
ACCEPTS = {place: frozenset(things.split()) for place, things in _ACCEPTS.items()}
"""Receptacle type to the object types that may be put there."""
_ABLE = {
    "heat": "apple bread cup egg mug plate potato tomato",
    "cool": "apple bowl bread cup egg lettuce mug pan plate pot potato tomato winebottle",
    "clean": "apple bowl butterknife cloth cup dishsponge egg fork kettle knife ladle lettuce mug pan plate pot potato"
    " soapbar spatula spoon tomato",
    "slice": "apple bread egg lettuce potato tomato",
}
ABLE = {verb: frozenset(things.split()) for verb, things in _ABLE.items()}
"""Verb to the object types that it can be done to."""
MACHINES = {"heat": "microwave", "cool": "fridge", "clean": "sinkbasin"}
KNIVES = frozenset(("knife", "butterknife"))
LAMPS = frozenset(("desklamp", "floorlamp"))
APPLIANCES = frozenset(["bathtubbasin", "coffeemachine", "microwave", "sinkbasin", "stoveburner", "toaster"])
"""Receptacles that stand on or in others: official games list an object on both, and taking it off one leaves it on the
other."""
VESSELS = frozenset(["bowl", "box", "cup", "mug", "pan", "plate", "pot"])
"""Objects that could hold others; looking at one says what is in it."""
_ONE = re.compile(r"a ([a-z]+ \d+)")


def kind_of(name: str) -> str:
    """`apple` of `apple 2`."""
    return name.partition(" ")[0]


def takes(place: str, thing: str) -> bool:
    """Whether this receptacle is of a type in or on which things of this type may be put."""
    return kind_of(thing) in ACCEPTS.get(kind_of(place), frozenset())


def listed(items: Sequence[str]) -> str:
    """ALFWorld's enumeration: `a pan 1, and a pot 1`, or `nothing`."""
    if len(items) < 2:
        return items[0] if items else "nothing"
    return f"{', '.join(items[:-1])}, and {items[-1]}"


def listed_things(names: Sequence[str]) -> str:
    """An enumeration of names, in the game's order: types as ids sort, numbers falling."""
    ordered = sorted(names, key=lambda name: (f"{kind_of(name)}_bar_", -int(name.split()[1])))
    return listed([f"a {name}" for name in ordered])


def read_list(text: str) -> tuple[str, ...]:
    """The names in an enumeration, in its order.

    Raises:
        ValueError: the text is no enumeration as the game writes it.
    """
    if text == "nothing":
        return ()
    found = tuple(_ONE.findall(text))
    if not found or listed([f"a {name}" for name in found]) != text:
        raise ValueError(f"no list of things: {text!r}")
    return found


def names_in(text: str) -> tuple[str, ...]:
    """The names in an enumeration, in its order; none where the text is no enumeration."""
    try:
        return read_list(text)
    except ValueError:
        return ()
