"""The figure: its build and pose as joints, and the drawing of skin, face and hair.

Heights in figure units: crown 0, chin 28, shoulders 40, armpits 53, waist 77, hips 96, crotch 105, knees 146, ankles
187, ground 200. Everything worn takes its shape from `half` and `centre` (torso), `arms` and `legs` (limbs).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

import numpy as np

from fashionkit.catalog.draw.canvas import Canvas
from fashionkit.catalog.draw.curves import Points, ellipse, limb, mirror, moved, smooth
from fashionkit.catalog.draw.fabrics import darker, edge, lighter, mix
from fashionkit.catalog.draw.vocab import RGB
from fashionkit.catalog.draw.wear import Dice

SKINS: Final[tuple[RGB, ...]] = (
    (255, 224, 202), (246, 206, 176), (232, 184, 148), (206, 152, 114), (168, 114, 80), (134, 90, 66), (104, 70, 54),
)  # fmt: skip
HAIRS: Final[tuple[RGB, ...]] = (
    (38, 30, 30), (66, 44, 34), (98, 64, 42), (150, 92, 50), (206, 162, 96), (158, 66, 40), (176, 174, 176),
)  # fmt: skip
HAIR_CUTS: Final = ("short", "short", "bob", "long", "bun", "curly", "ponytail", "crop")
_LEVELS: Final = (30.0, 40.0, 53.0, 64.0, 77.0, 96.0, 106.0)


@dataclass(frozen=True)
class Body:
    """Build and pose.

    Attributes:
        widths: half widths at the heights 30, 40 (shoulders), 53, 64, 77 (waist), 96 (hips), 106.
        axis: x of the torso's middle at neck, waist and hips (34, 77, 98).
        arms: (2, 3, 2) shoulder, elbow, wrist of the arm at negative and at positive x.
        legs: (2, 3, 2) hip, knee, ankle likewise.
        lift: how far heels raise the ankles.
        head: x of the head's middle.
        skin, hair: colours; `cut` is one of `HAIR_CUTS`.
        arm, leg: half widths along the limbs.
    """

    widths: tuple[float, ...]
    axis: tuple[float, float, float]
    arms: Points
    legs: Points
    lift: float
    head: float
    skin: RGB
    hair: RGB
    cut: str
    arm: tuple[float, float, float]
    leg: tuple[float, float, float]

    def half(self, y: float) -> float:
        """Half width of the torso at height `y`."""
        return float(np.interp(y, _LEVELS, self.widths))

    def centre(self, y: float) -> float:
        """Middle of the torso at height `y`."""
        return float(np.interp(y, (34, 77, 98), self.axis))

    @property
    def shoulder(self) -> float:
        """Half width of the shoulders."""
        return self.widths[1]

    def leg_at(self, side: int, y: float) -> float:
        """Middle of a leg (side -1 or 1) at height `y`."""
        bones = self.legs[(side + 1) // 2]
        return float(np.interp(y, bones[:, 1], bones[:, 0]))

    def leg_half(self, y: float) -> float:
        """Half width of a leg at height `y`."""
        return float(np.interp(y, (100, 146, 162, 187), (self.leg[0], self.leg[1], self.leg[1] * 1.06, self.leg[2])))

    def legs_reach(self, y: float) -> float:
        """Largest distance of the legs' outer sides from x = 0 at height `y`."""
        return max(abs(self.leg_at(side, y)) for side in (-1, 1)) + self.leg_half(y)


def _arm(dice: Dice, side: int, shoulder: float, x: float, pose: str, hip: float, room: float) -> Points:
    """Returns shoulder, elbow and wrist of one arm, `room` degrees further from the trunk than usual."""
    start = np.array([x + side * (shoulder - 4.6), 44.0])
    upper, lower = {
        "down": (dice.uniform(14, 21) + room, dice.uniform(4, 12) + room / 2),
        "out": (dice.uniform(24, 36), dice.uniform(16, 34)),
        "hip": (dice.uniform(44, 52), dice.uniform(-44, -36)),
        "crook": (dice.uniform(16, 22) + room, dice.uniform(62, 78)),
        "wave": (dice.uniform(50, 64), dice.uniform(148, 166)),
    }[pose]
    reach = 27.5 if pose != "hip" else 26.0
    elbow = start + reach * np.array([side * math.sin(math.radians(upper)), math.cos(math.radians(upper))])
    wrist = elbow + 24 * np.array([side * math.sin(math.radians(lower)), math.cos(math.radians(lower))])
    if pose == "hip":
        wrist[0] = x + side * max(abs(wrist[0] - x), hip + 1.5)
    return np.stack([start, elbow, wrist])


def make_body(dice: Dice, *, feminine: bool, lift: float, bag_side: int, bag_pose: str, room: float) -> Body:
    """Draws build and pose.

    Args:
        dice: the scene's dice.
        feminine: narrower shoulders and waist, wider hips; longer hair is likelier.
        lift: heel height in figure units.
        bag_side: side (-1 or 1) of the arm that carries a bag, 0 for none.
        bag_pose: pose of that arm.
        room: how much further than usual wide sleeves keep hanging arms from the trunk, degrees.
    """
    build = dice.uniform(0.93, 1.13)
    shoulder = (20.4 if feminine else 23.4) * (0.45 + 0.55 * build)
    chest = shoulder - (3.6 if feminine else 3.4)
    waist = (13.4 if feminine else 16.2) * build
    hip = (18.2 if feminine else 17.4) * (0.2 + 0.8 * build)
    sway = dice.uniform(-2.2, 2.2)
    axis = (-0.4 * sway, 0.3 * sway, sway)
    widths = (5.0, shoulder, chest, (chest + waist * 1.4) / 2.35, waist, hip, hip - 0.6)
    poses = ("down", "down", "down", "out", "hip", "hip", "crook", "wave")
    arms = []
    for side in (-1, 1):
        pose = dice.pick(poses)
        arms.append(_arm(dice, side, shoulder, axis[0], bag_pose if side == bag_side else pose, hip, room))
    stance, bend = dice.uniform(6.5, 11.5), dice.uniform(-1.5, 3)
    bent = dice.sign()
    legs = []
    for side in (-1, 1):
        thigh = np.array([sway + side * hip * 0.5, 99.0])
        ankle = np.array([sway * 0.4 + side * stance, 187.0 - lift])
        knee = (thigh + ankle) / 2 + (side * (bend if side == bent else 0.4) + side * 0.8, 3.0)
        legs.append(np.stack([thigh, knee, ankle]))
    cut = dice.pick(HAIR_CUTS[2:7] if feminine else HAIR_CUTS)
    return Body(
        widths=widths,
        axis=axis,
        arms=np.stack(arms),
        legs=np.stack(legs),
        lift=lift,
        head=axis[0] + dice.uniform(-0.8, 0.8),
        skin=dice.pick(SKINS),
        hair=dice.pick(HAIRS),
        cut=cut,
        arm=(5.4 * build, 4.5 * build, 3.4),
        leg=(hip * 0.5 + 0.4, 6.8 * build, 4.0),
    )


def draw_torso(canvas: Canvas, body: Body) -> None:
    """Draws neck, shoulders and trunk."""
    y = (24.0, 31.0, 34.5, 38.5, 43.0, 53.0, 64.0, 77.0, 90.0, 104.0)
    half = (4.7, 4.6, 7.0, body.shoulder - 3.5, body.shoulder - 0.6, *(body.half(v) for v in y[5:]))
    right = np.array([(body.centre(a) + b, a) for a, b in zip(y, half, strict=True)])
    left = np.array([(body.centre(a) - b, a) for a, b in zip(y, half, strict=True)])
    canvas.shape(np.concatenate([smooth(right, steps=3), smooth(left, steps=3)[::-1]]), body.skin)
    canvas.fold([(body.head - 4, 29.5), (body.head, 31.5), (body.head + 4, 29.5)], 3.0, 60)


def draw_leg(canvas: Canvas, body: Body, side: int) -> None:
    """Draws one bare leg without the foot."""
    hip, knee, ankle = body.legs[(side + 1) // 2]
    calf = knee + (ankle - knee) * 0.32
    end = moved(ankle, 0.0, 2.0)
    thick, middle, thin = body.leg
    outline = limb([hip, knee, calf, end], (thick, middle, middle * 1.04, thin), steps=5)
    canvas.shape(outline, body.skin, outline=False)
    sides = limb([hip, knee, calf, end], (thick, middle, middle * 1.04, thin), steps=5, cap=False)
    for part in np.split(sides, 2):
        canvas.stroke(part, edge(body.skin), 0.45)
    canvas.fold([moved(knee, -3, 0), moved(knee, 0, 1.2), moved(knee, 3, 0)], 1.2, 20)


def draw_arm(canvas: Canvas, body: Body, side: int, start: float = 0.0) -> None:
    """Draws one bare arm and hand, from `start` (0..0.5) of its length on."""
    bones = body.arms[(side + 1) // 2]
    thick, middle, thin = body.arm
    first = bones[0] + (bones[1] - bones[0]) * start
    widths = (thick - start * 0.8, middle, thin)
    canvas.shape(limb([first, bones[1], bones[2]], widths, cap=not start), body.skin, outline=False)
    for part in np.split(limb([first, bones[1], bones[2]], widths, cap=False), 2):
        canvas.stroke(part, edge(body.skin), 0.45)
    draw_hand(canvas, body, side)


def draw_hand(canvas: Canvas, body: Body, side: int) -> None:
    """Draws one hand."""
    elbow, wrist = body.arms[(side + 1) // 2][1:]
    ahead = (wrist - elbow) / np.hypot(*(wrist - elbow))
    palm = wrist + ahead * 3.4
    across = np.array([-ahead[1], ahead[0]])
    outline = [wrist - across * 2.9, palm - across * 3.5, wrist + ahead * 7.4 - across * 1.6,
               wrist + ahead * 7.6 + across * 1.2, palm + across * 3.6, wrist + across * 2.9]  # fmt: skip
    canvas.shape(smooth(outline, closed=True, steps=4), body.skin, round_shade=1.2)


def hand_at(body: Body, side: int) -> tuple[float, float]:
    """Returns where something held in the hand hangs from."""
    elbow, wrist = body.arms[(side + 1) // 2][1:]
    palm = wrist + (wrist - elbow) / np.hypot(*(wrist - elbow)) * 4.5
    return float(palm[0]), float(palm[1])


def draw_hair_back(canvas: Canvas, body: Body) -> None:
    """Draws the hair that falls behind the shoulders."""
    x, colour = body.head, darker(body.hair, 0.12)
    if body.cut == "long":
        canvas.shape(smooth(_around(x, [(11.8, 12), (13.2, 26), (13.6, 42), (10, 55)]), closed=True), colour)
    elif body.cut == "bob":
        canvas.shape(smooth(_around(x, [(12, 12), (13.8, 24), (12, 32.5)]), closed=True), colour)
    elif body.cut == "ponytail":
        tail = [(x + 6, 8), (x + 15, 12), (x + 17.5, 26), (x + 14, 38), (x + 12.5, 24), (x + 7, 16)]
        canvas.shape(smooth(tail, closed=True), colour)
    elif body.cut == "curly":
        for dx, y, r in ((-11.5, 12, 6), (11.5, 12, 6), (-12, 21, 5.5), (12, 21, 5.5), (-7, 4, 6.5), (7, 4, 6.5)):
            canvas.shape(ellipse(x + dx, y, r, r), colour, outline=False, round_shade=0)


def _around(x: float, right: list[tuple[float, float]]) -> Points:
    half = np.array(right)
    return moved(np.concatenate([half, mirror(half)]), x, 0.0)


def draw_head(canvas: Canvas, body: Body) -> None:
    """Draws head, ears and face."""
    x, skin = body.head, body.skin
    for side in (-1, 1):
        canvas.shape(ellipse(x + side * 10.2, 16.5, 2.1, 3.0, 12), skin, round_shade=0)
    face = [(0, 1.5), (7.2, 3.6), (10.2, 10.5), (9.9, 18), (7.4, 24.4), (3.2, 28), (-3.2, 28), (-7.4, 24.4),
            (-9.9, 18), (-10.2, 10.5), (-7.2, 3.6)]  # fmt: skip
    canvas.shape(smooth(moved(np.array(face), x, 0), closed=True), skin, round_shade=2.0)
    dark = mix((44, 30, 30), skin, 0.1)
    for side in (-1, 1):
        canvas.dot(x + side * 4.1, 15.6, 1.15, dark)
        brow = [(x + side * 2.2, 12.4), (x + side * 4.2, 11.6), (x + side * 6.2, 12.5)]
        canvas.stroke(brow, mix(body.hair, dark, 0.45), 0.75)
        canvas.dot(x + side * 5.8, 20.2, 1.5, mix(skin, (232, 96, 92), 0.22))
    canvas.stroke([(x + 0.2, 16.5), (x + 1.2, 19.2), (x, 19.6)], darker(skin, 0.28), 0.6)
    mouth = smooth([(x - 2.5, 22.9), (x, 24.1), (x + 2.5, 22.9)], steps=4)
    canvas.stroke(mouth, mix(darker(skin, 0.3), (190, 50, 60), 0.5), 0.9)


def draw_hair_front(canvas: Canvas, body: Body, *, hat: bool) -> None:
    """Draws the hair over the forehead; under a hat only what comes out below it."""
    x, hair = body.head, body.hair
    if hat:
        if body.cut in ("long", "bob", "curly"):
            for side in (-1, 1):
                lock = np.array([(8.4, 8), (11.2, 9), (12.2, 18), (11, 25), (9.6, 18)]) * (side, 1) + (x, 0)
                canvas.shape(smooth(lock, closed=True), hair, round_shade=0)
        return
    if body.cut == "bun":
        canvas.shape(ellipse(x, -2.5, 5.2, 4.8), hair)
    depth = {"short": 13, "crop": 8.5, "curly": 15}.get(body.cut, 19)
    fringe = [(-10.9, depth), (-11.6, 8), (-7.5, 0.2), (0, -1.8), (7.5, 0.2), (11.6, 8), (10.9, depth), (9.3, 10.5),
              (6, 7.2), (0, 8 if body.cut != "bob" else 10.2), (-5, 6.4), (-9.2, 10.5)]  # fmt: skip
    if body.cut == "crop":
        fringe = [(-10.4, 10), (-10.6, 6), (-6.5, 0.8), (0, -0.6), (6.5, 0.8), (10.6, 6), (10.4, 10), (8, 5.4),
                  (0, 4.2),
                  (-8, 5.4)]  # fmt: skip
    canvas.shape(smooth(moved(np.array(fringe), x, 0), closed=True), hair)
    canvas.stroke(smooth([(x - 5, 2.6), (x - 1, 1.0), (x + 3, 1.6)], steps=4), lighter(hair, 0.25), 0.8)
    if body.cut == "curly":
        for dx, y in ((-8, 2), (-3, -1), (3, -1), (8, 2), (-10.5, 8), (10.5, 8)):
            canvas.shape(ellipse(x + dx, y, 4.2, 4.0), hair, outline=False, round_shade=1.0)
