"""The HTTP door: OpenAI's API over the store. No torch in this process; models answer through the serving process."""
