"""What a call cannot do without."""

NAMES = {"conversation_id": "conv_1", "user_id": "usr_7", "tool_name": "lookup"}
