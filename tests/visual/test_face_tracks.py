"""People are followed by their boxes alone: crossing, leaving, flicker, gaps, who is chosen."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from extractors.visual.faces.track import choose_track, faces_of_track, link_faces

IMAGES_PER_SECOND = 25
SIZE = (640, 360)


def box(x, y=180.0, side=80.0):
    return [x - side / 2, y - side / 2, x + side / 2, y + side / 2]


def clip(*images):
    return [np.array(faces, np.float32).reshape(-1, 4) for faces in images]


def link(boxes, images_per_second=IMAGES_PER_SECOND):
    return link_faces(boxes, [i / images_per_second for i in range(len(boxes))])


def chosen(boxes, images_per_second=IMAGES_PER_SECOND):
    numbers = link(boxes, images_per_second)
    return faces_of_track(numbers, choose_track(boxes, numbers, [SIZE] * len(boxes)))


def test_one_still_face_is_one_track():
    assert [list(n) for n in link(clip(*[[box(300)]] * 5))] == [[0]] * 5


def test_no_face_anywhere_is_no_track():
    boxes = clip([], [], [])
    numbers = link(boxes)
    assert choose_track(boxes, numbers, [SIZE] * 3) is None
    assert list(faces_of_track(numbers, None)) == [-1, -1, -1]


def test_order_of_detections_does_not_matter():
    """A detector sorts by score, so two people swap places from image to image."""
    left, right = box(150), box(450)
    numbers = link(clip([left, right], [right, left], [left, right], [right, left]))
    assert [list(n) for n in numbers] == [[0, 1], [1, 0], [0, 1], [1, 0]]


def test_crossing_people_keep_their_tracks():
    """Two walk through each other: at the middle their boxes coincide, and one is not detected."""
    images = []
    for i in range(41):
        there, back = box(120 + 10 * i), box(520 - 10 * i)
        hidden = abs((120 + 10 * i) - (520 - 10 * i)) < 45
        images.append([there] if hidden else [there, back])
    numbers = link(clip(*images))
    assert list(numbers[0]) == [0, 1]
    assert list(numbers[-1]) == [0, 1]
    assert {int(n) for here in numbers for n in here} == {0, 1}


def test_leaving_person_is_not_replaced_by_the_other():
    """The chosen one leaves; the one who stays small in the corner never takes over."""
    main, other = box(320, side=160), box(60, 60, side=40)
    boxes = clip(*[[main, other]] * 20, *[[other]] * 10)
    assert list(chosen(boxes)) == [0] * 20 + [-1] * 10


def test_flicker_and_a_gap_shorter_than_a_second_keep_the_track():
    face = [box(320)]
    boxes = clip(face, [], face, [], face, *[[]] * 20, face, face)
    numbers = link(boxes)
    assert {int(n) for here in numbers for n in here} == {0}
    assert list(chosen(boxes)) == [0, -1, 0, -1, 0, *[-1] * 20, 0, 0]


def test_gap_longer_than_a_second_ends_the_track():
    face = [box(320)]
    numbers = link(clip(face, *[[]] * 26, face))
    assert int(numbers[-1][0]) == 1


def test_moving_face_is_met_again_where_it_was_heading():
    """10 px an image, unseen for 12 images: 120 px on, three times what overlap would bridge."""
    images = [[box(100 + 10 * i)] if i < 10 or i >= 22 else [] for i in range(30)]
    assert {int(n) for here in link(clip(*images)) for n in here} == {0}


def test_few_images_a_second_link_by_nearness():
    """At two images a second a head moves by half its width: too little overlap, near enough."""
    images = [[box(200 + 50 * (i % 2))] for i in range(6)]
    numbers = link(clip(*images), images_per_second=2)
    assert {int(n) for here in numbers for n in here} == {0}


def test_jump_across_the_image_is_another_person():
    numbers = link(clip([box(100)], [box(500)]))
    assert [int(n[0]) for n in numbers] == [0, 1]


def test_much_larger_face_at_the_same_place_is_another_person():
    numbers = link(clip([box(320, side=60)], [box(320, side=200)]))
    assert [int(n[0]) for n in numbers] == [0, 1]


def test_larger_face_is_chosen():
    boxes = clip(*[[box(150, side=60), box(450, side=120)]] * 5)
    assert list(chosen(boxes)) == [1] * 5


def test_of_two_equal_faces_the_central_one_is_chosen():
    boxes = clip(*[[box(60, 60), box(320)]] * 5)
    assert list(chosen(boxes)) == [1] * 5


def test_present_face_beats_a_larger_passer_by():
    boxes = clip(*[[box(320, side=90)]] * 20, *[[box(320, side=90), box(560, side=180)]] * 3)
    assert list(chosen(boxes)) == [0] * 23


def test_tie_goes_to_the_first_track():
    boxes = clip(*[[box(220), box(420)]] * 3)
    assert list(chosen(boxes)) == [0] * 3


coordinate = st.floats(0, 600, width=32)
face = st.builds(
    lambda x, y, side: [x, y, x + side, y + side], coordinate, coordinate, st.floats(1, 300)
)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.lists(face, max_size=4), min_size=1, max_size=12))
def test_every_face_has_one_track_and_a_track_one_face_an_image(images):
    boxes = clip(*images)
    numbers = link(boxes)
    assert [len(n) for n in numbers] == [len(b) for b in boxes]
    assert all(len(set(n.tolist())) == len(n) and (n >= 0).all() for n in numbers)
    first_seen = list(dict.fromkeys(int(n) for here in numbers for n in here))
    assert first_seen == sorted(first_seen)


def test_images_and_times_must_pair():
    with pytest.raises(ValueError, match="zip"):
        link_faces(clip([box(1)]), [])


def test_neighbour_that_moves_off_keeps_its_track():
    """The second's old place overlaps the first's face more than its own new one."""
    numbers = link(clip([box(200), box(230)], [box(200), box(262)]))
    assert [list(n) for n in numbers] == [[0, 1], [0, 1]]
