"""The names of the arrays that go into and come out of exported programs."""

IMAGE_FEATURES = ("embedding", "stride4", "stride8")
FEATURES = (*IMAGE_FEATURES, "query_tokens", "queries")
BANK = (
    "conditioning_tokens",
    "conditioning_frames",
    "conditioning_valid",
    "conditioning_pointers",
    "recent_tokens",
    "recent_frames",
    "recent_valid",
    "pointers",
    "pointer_frames",
    "pointer_valid",
)
STATE = (*BANK, "frame")
NEXT = "next_"  # before the name of a state, the one after the frame
