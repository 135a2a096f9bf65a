"""The V1 events, as recorded; `Agents` adds id, time and parent when it stores them."""

import json
from uuid import uuid4

from bot.simulator.openhands.state import Event

KINDS = (
    "ServerErrorEvent",
    "ACPToolCallEvent",
    "Condensation",
    "CondensationRequest",
    "CondensationSummaryEvent",
    "ConversationErrorEvent",
    "ConversationStateUpdateEvent",
    "HookExecutionEvent",
    "LLMCompletionLogEvent",
    "ActionEvent",
    "MessageEvent",
    "AgentErrorEvent",
    "ObservationEvent",
    "UserRejectObservation",
    "SystemPromptEvent",
    "StreamingDeltaEvent",
    "TokenEvent",
    "InterruptEvent",
    "PauseEvent",
)


def _text(text: str) -> list[Event]:
    return [{"cache_prompt": False, "type": "text", "text": text}]


def system_prompt() -> Event:
    return {
        "source": "agent",
        "system_prompt": _text("You are OpenHands agent, a helpful AI assistant.")[0],
        "tools": [],
        "dynamic_context": None,
        "kind": "SystemPromptEvent",
    }


def message(text: str, *, source: str) -> Event:
    return {
        "source": source,
        "llm_message": {
            "role": "user" if source == "user" else "assistant",
            "content": _text(text),
            "tool_calls": None,
            "tool_call_id": None,
            "name": None,
            "reasoning_content": None,
            "thinking_blocks": [],
            "responses_reasoning_item": None,
        },
        "llm_response_id": None if source == "user" else f"chatcmpl-{uuid4().hex[:12]}",
        "activated_skills": [],
        "extended_content": [],
        "sender": None,
        "critic_result": None,
        "kind": "MessageEvent",
    }


def _action(action: Event, *, tool: str, arguments: Event, summary: str, risk: str) -> Event:
    call = f"call_{uuid4().hex[:12]}"
    return {
        "source": "agent",
        "thought": [],
        "reasoning_content": None,
        "thinking_blocks": [],
        "responses_reasoning_item": None,
        "action": action,
        "tool_name": tool,
        "tool_call_id": call,
        "tool_call": {
            "id": call,
            "responses_item_id": None,
            "name": tool,
            "arguments": json.dumps(arguments),
            "origin": "completion",
        },
        "llm_response_id": f"chatcmpl-{uuid4().hex[:12]}",
        "security_risk": risk,
        "critic_result": None,
        "summary": summary,
        "kind": "ActionEvent",
    }


def one_answer(actions: list[Event]) -> list[Event]:
    """Return these actions as if they came in one response of the model."""
    return [action | {"llm_response_id": actions[0]["llm_response_id"]} for action in actions]


def command(command: str, *, summary: str, risk: str) -> Event:
    return _action(
        {"command": command, "is_input": False, "timeout": None, "reset": False, "kind": "TerminalAction"},
        tool="terminal",
        arguments={"command": command, "security_risk": risk, "summary": summary},
        summary=summary,
        risk=risk,
    )


def finish(words: str) -> Event:
    arguments = {"message": words}
    return _action(
        {"message": words, "kind": "FinishAction"},
        tool="finish",
        arguments=arguments,
        summary=f"finish: {json.dumps(arguments)}",
        risk="UNKNOWN",
    )


def _answer(action: Event, observation: Event) -> Event:
    return {
        "source": "environment",
        "tool_name": action["tool_name"],
        "tool_call_id": action["tool_call_id"],
        "observation": observation,
        "action_id": action["id"],
        "extended_content": [],
        "kind": "ObservationEvent",
    }


def command_result(action: Event) -> Event:
    """Return the event of a command that succeeded; its presence means that the command was carried out."""
    observation = {
        "content": _text(""),
        "is_error": False,
        "command": action["action"]["command"],
        "exit_code": 0,
        "timeout": False,
        "kind": "TerminalObservation",
    }
    return _answer(action, observation)


def finish_result(action: Event) -> Event:
    content = _text(action["action"]["message"])
    return _answer(action, {"content": content, "is_error": False, "kind": "FinishObservation"})


def rejection(action: Event, reason: str) -> Event:
    return {
        "source": "environment",
        "tool_name": action["tool_name"],
        "tool_call_id": action["tool_call_id"],
        "rejection_reason": reason,
        "rejection_source": "user",
        "action_id": action["id"],
        "kind": "UserRejectObservation",
    }


def cut_off(action: Event, why: str = "Tool call interrupted before completion. The conversation was paused.") -> Event:
    return {
        "source": "agent",
        "tool_name": action["tool_name"],
        "tool_call_id": action["tool_call_id"],
        "error": why,
        "kind": "AgentErrorEvent",
    }


def failure(code: str, detail: str) -> Event:
    return {"source": "environment", "code": code, "detail": detail, "kind": "ConversationErrorEvent"}


def stopped_by_user(kind: str) -> Event:
    """kind: InterruptEvent or PauseEvent."""
    return {"source": "user", "kind": kind}


def state(key: str, value: object) -> Event:
    return {"source": "environment", "key": key, "value": value, "kind": "ConversationStateUpdateEvent"}
