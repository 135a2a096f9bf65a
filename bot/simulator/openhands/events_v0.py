"""The V0 events, as recorded; `Agents` adds id and time when it stores them."""

from bot.simulator.openhands.state import Event


def metrics(cost: float, tokens: int) -> Event:
    return {
        "accumulated_cost": cost,
        "max_budget_per_task": None,
        "accumulated_token_usage": {"model": "default", "prompt_tokens": tokens, "completion_tokens": tokens // 50},
        "costs": [],
        "response_latencies": [],
        "token_usages": [],
    }


def system_prompt() -> Event:
    words = "You are OpenHands agent, a helpful AI assistant."
    return {"source": "agent", "message": words, "action": "system", "args": {"content": words, "tools": []}}


def message(text: str, *, source: str) -> Event:
    return {
        "source": source,
        "message": text,
        "action": "message",
        "args": {
            "content": text,
            "file_urls": None,
            "image_urls": None,
            "wait_for_response": source == "agent",
            "security_risk": -1,
        },
    }


def asked_for_state(word: str, *, source: str) -> Event:
    return {
        "source": source,
        "message": f"Agent state changed to {word}",
        "action": "change_agent_state",
        "args": {"agent_state": word, "thought": ""},
    }


def state(word: str, reason: str = "") -> Event:
    return {
        "source": "environment",
        "message": "",
        "observation": "agent_state_changed",
        "content": "",
        "extras": {"agent_state": word, "reason": reason},
    }


def command(command: str, *, confirmation: str) -> Event:
    """Return the event of a command. confirmation: confirmed, awaiting_confirmation or rejected."""
    return {
        "source": "agent",
        "message": f"Running command: {command}",
        "action": "run",
        "args": {
            "command": command,
            "is_input": False,
            "thought": "",
            "blocking": False,
            "is_static": False,
            "cwd": None,
            "hidden": False,
            "confirmation_state": confirmation,
            "security_risk": -1,
        },
    }


def command_result(action: Event) -> Event:
    command = action["args"]["command"]
    return {
        "source": "agent",
        "message": f"Command `{command}` executed with exit code 0.",
        "cause": action["id"],
        "observation": "run",
        "content": "",
        "extras": {"command": command, "metadata": {"exit_code": 0, "pid": -1}, "hidden": False},
        "success": True,
    }


def rejection(action: Event) -> Event:
    words = "Action has been rejected by the user! Waiting for further user input."
    return {
        "source": "agent",
        "message": words,
        "cause": action["id"],
        "observation": "user_rejected",
        "content": words,
        "extras": {},
    }


def cut_off(action: Event) -> Event:
    words = "Stop button pressed. The action has not been executed."
    return {
        "source": "agent",
        "message": words,
        "cause": action["id"],
        "observation": "error",
        "content": words,
        "extras": {"error_id": "AGENT_ERROR$ERROR_ACTION_NOT_EXECUTED_STOPPED"},
    }


def finish(words: str) -> Event:
    """Return the event that ends a turn. The final thought is the answer; the message is always this stock phrase."""
    return {
        "source": "agent",
        "message": "All done! What's next on the agenda?",
        "action": "finish",
        "args": {"final_thought": words, "outputs": {}, "thought": ""},
    }
