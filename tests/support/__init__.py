"""What tests share: tiny models, synthesised speech, commands, a virtual sound card."""
