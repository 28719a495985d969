"""Validation of query parameters and JSON bodies by pydantic models, with errors that name the member."""

from __future__ import annotations

import json
from typing import Final, TypeVar, get_args, get_origin

from flask import request
from pydantic import BaseModel, ValidationError
from werkzeug.datastructures import MultiDict
from werkzeug.exceptions import BadRequest, UnsupportedMediaType

from api.http.body import MAX_JSON_BYTES
from api.http.problem_types import ProblemType
from api.http.problems import RequestError

Model = TypeVar("Model", bound=BaseModel)

_LISTS: Final = (tuple, frozenset)  # types of parameters that may be repeated
_SHOWN: Final = 80  # characters of a wrong value in a sentence


def check_query(model: type[BaseModel] | None) -> None:
    """Check that the current request has only parameters of `model`, and each of them once.

    Raises:
        RequestError: 400, naming the parameter.
    """
    names = [] if model is None else [field.alias or name for name, field in model.model_fields.items()]
    for name, values in request.args.lists():
        if name not in names:
            known = f"use {', '.join(names)}" if names else "the call has none"
            raise _invalid_parameter(f"{name[:_SHOWN]!r} is not a parameter of this call; {known}.")
        if len(values) > 1 and name not in _lists(model):
            raise _invalid_parameter(f"{name!r} was sent {len(values)} times; send it once.")


def read_query(model: type[Model]) -> Model:
    """Return the current request's parameters.

    Raises:
        RequestError: 400, naming the parameter.
    """
    try:
        return model.model_validate(_sent_parameters(model) if request.environ.get("QUERY_STRING") else {})
    except ValidationError as error:
        raise _invalid_parameter(f"{_reason(error, with_value=True)}.") from error


def read_document(model: type[Model], max_bytes: int = MAX_JSON_BYTES) -> Model:
    """Return the current request's JSON body.

    Args:
        model: its members.
        max_bytes: limit of the body.

    Raises:
        RequestError: 400, naming the member; 415, the body is not declared as JSON.
        RequestEntityTooLarge: the body has more bytes.
    """
    request.max_content_length = max_bytes
    try:
        document = request.get_json()
        json.dumps(document, ensure_ascii=False).encode()  # Else a response that repeats a text would fail.
        return model.model_validate(document)
    except UnsupportedMediaType as error:
        raise RequestError(
            ProblemType.UNSUPPORTED_BODY,
            "The body is not declared as JSON; send Content-Type: application/json.",
        ) from error
    except RecursionError as error:
        raise _invalid_body("The JSON is nested too deeply", model) from error
    except BadRequest as error:
        raise _invalid_body("The body is not JSON", model) from error
    except UnicodeEncodeError as error:
        raise _invalid_body(r"The JSON has half of a surrogate pair, such as \ud800", model) from error
    except ValidationError as error:
        raise _invalid_body(_reason(error, with_value=False), model) from error


def read_part(model: type[Model], content: memoryview, name: str) -> Model:
    """Return a form's part that is JSON.

    Args:
        model: its members.
        content: of the part.
        name: of the part, for the sentence.

    Raises:
        RequestError: 400, naming the member.
    """
    try:
        return model.model_validate_json(bytes(content))
    except ValidationError as error:
        reason = _reason(error, with_value=False)
        raise _invalid_body(f"The part {name} is wrong: {reason}", model) from error


def _sent_parameters(model: type[BaseModel]) -> dict[str, str | list[str]]:
    args: MultiDict[str, str] = request.args
    lists = _lists(model)
    return {name: values if name in lists else values[0] for name, values in args.lists()}


def _lists(model: type[BaseModel] | None) -> set[str]:
    """Return the names of the parameters that may be repeated."""
    fields = {} if model is None else model.model_fields
    return {
        field.alias or name
        for name, field in fields.items()
        if any(get_origin(each) in _LISTS for each in (field.annotation, *get_args(field.annotation)))
    }


def _reason(error: ValidationError, *, with_value: bool) -> str:
    """Return the first error: its place, and the rule that it breaks.

    Args:
        error: of a model.
        with_value: whether to show the value sent; values of bodies can be secret.
    """
    first = error.errors(include_url=False)[0]
    place = _place(first["loc"])
    match first["type"]:
        case "json_invalid":
            return "it is not JSON"
        case "missing":
            return f"{place!r} is missing"
        case "extra_forbidden":
            return f"{place!r} is not a member of this document"
        case "model_type" | "model_attributes_type":
            return f"{place or 'The document'} is not an object"
    reason = first["msg"].removeprefix("Value error, ")
    value = f"={_sent(first['input'])[:_SHOWN]!r}" if with_value else ""
    joint = " " if first["type"] == "value_error" else ": "
    return f"{place}{value}{joint}{reason[0].lower()}{reason[1:]}"


def _sent(value: object) -> str:
    """Return a parameter's value as it was sent."""
    return ",".join(map(str, value)) if isinstance(value, list) else str(value)


def _place(location: tuple[int | str, ...]) -> str:
    """Return the path of a member, such as `files[3].camera`."""
    place = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in location)
    return place.removeprefix(".")


def _invalid_parameter(detail: str) -> RequestError:
    return RequestError(ProblemType.INVALID_PARAMETER, detail)


def _invalid_body(reason: str, model: type[BaseModel]) -> RequestError:
    # A model's own example leaves out members that most bodies do without.
    extra = model.model_config.get("json_schema_extra")
    fields = model.model_fields.items()
    own = extra.get("examples") if isinstance(extra, dict) else None
    members = {field.alias or name: field.examples[0] for name, field in fields if field.examples}
    example = own[0] if isinstance(own, list) else members
    return RequestError(ProblemType.INVALID_BODY, f"{reason}; send JSON such as {json.dumps(example)}.")
