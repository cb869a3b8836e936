"""A steady load of streams, each compared with the answer of an undisturbed run."""
import collections
import http.client
import json
import threading
import time

from support import ADDRESS, complete

PROMPTS = ["In the beginning", "It is a truth", "The sea was", "Call me", "She had been",
           "LOVE, n.", "And the king said", "Whither thou goest"]
TOKENS = 160
STREAMS = 6
STREAM_SECONDS = 60
# After a failure, so that what fails at once is not asked without end.
PAUSE_SECONDS = 0.02


def stream(prompt, tokens):
    """Text and reason of a streamed completion; OSError or HTTPException where it breaks off."""
    connection = http.client.HTTPConnection(*ADDRESS, timeout=STREAM_SECONDS)
    try:
        body = json.dumps({"model": "demo", "prompt": prompt, "max_tokens": tokens,
                           "temperature": 0, "ignore_eos": True, "stream": True})
        connection.request("POST", "/v1/completions", body, {"Content-Type": "application/json"})
        answer = connection.getresponse()
        if answer.status != 200:
            raise Refused(f"{answer.status}: {answer.read().decode()[:300]}")
        text, reason = "", None
        for line in answer:
            if line.startswith(b"data: {"):
                event = json.loads(line[6:])
                if "error" in event:
                    raise Refused(str(event))
                text += event["choices"][0]["text"]
                reason = event["choices"][0]["finish_reason"] or reason
            elif line.startswith(b"data: [DONE]"):
                return text, reason
        raise http.client.IncompleteRead(text.encode())
    finally:
        connection.close()


class Refused(http.client.HTTPException):
    """An answer that is no stream."""


class Load:
    """Streams until it is stopped; counts what became of each."""

    def __init__(self):
        self.expected = {prompt: complete(prompt, TOKENS, ignore_eos=True)["text"]
                         for prompt in PROMPTS}
        self.lock = threading.Lock()
        self.stopping = threading.Event()
        self.completed = 0
        self.wrong = []
        self.failed = []
        self.refused_connections = 0
        self.longest_seconds = 0.0
        self.threads = [threading.Thread(target=self.work, args=(index,))
                        for index in range(STREAMS)]

    def __enter__(self):
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self.stopping.set()
        for thread in self.threads:
            thread.join()

    def work(self, index):
        while not self.stopping.is_set():
            prompt = PROMPTS[index % len(PROMPTS)]
            index += STREAMS + 1
            began = time.monotonic()
            try:
                text, reason = stream(prompt, TOKENS)
            except ConnectionRefusedError:
                with self.lock:
                    self.refused_connections += 1
                self.stopping.wait(PAUSE_SECONDS)
                continue
            except (OSError, http.client.HTTPException) as error:
                with self.lock:
                    self.failed.append(f"after {time.monotonic() - began:.2f} s {error!r}")
                self.stopping.wait(PAUSE_SECONDS)
                continue
            with self.lock:
                self.completed += 1
                self.longest_seconds = max(self.longest_seconds, time.monotonic() - began)
                if (text, reason) != (self.expected[prompt], "length"):
                    self.wrong.append((prompt, text))

    def kinds_of_failure(self):
        """How many streams were refused with which answer, and how many broke off."""
        return dict(collections.Counter(
            text.split("error", 1)[0] if "Refused(" in text else text.split("(", 1)[0]
            for text in (failure.split(" s ", 1)[1] for failure in self.failed)))

    def summary(self):
        return (f"{self.completed} streams of {TOKENS} tokens whole, {len(self.failed)} failed, "
                f"{self.refused_connections} refused connections, {len(self.wrong)} with wrong "
                f"text, longest {self.longest_seconds:.2f} s")
