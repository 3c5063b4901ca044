"""Who is asking, and what they may do: sessions, personal tokens (read-only by default), owners, assignees."""

from __future__ import annotations

import secrets
from typing import Any

from cvat_double.http import RefusedError, Request, Response, Routes
from cvat_double.state import Job, Project, Task, User, World

FORBIDDEN = {"detail": "You do not have permission to perform this action."}


def identify(world: World, request: Request) -> None:
    """Put the user, the token's limits and the organization into the request; 401 for a wrong token."""
    authorization = request.headers.get("authorization", "")
    if authorization.lower().startswith("bearer "):
        value = authorization[7:]
        token = next((token for token in world.tokens if token.value == value and not token.revoked), None)
        if token is None:
            raise RefusedError(401, {"detail": "Invalid token."})
        request.user, request.read_only = token.user, token.read_only
    else:
        cookies = dict(
            part.strip().split("=", 1) for part in request.headers.get("cookie", "").split(";") if "=" in part
        )
        request.user = world.sessions.get(cookies.get("sessionid", ""))
    slug = request.query.get("org", request.headers.get("x-organization"))
    request.personal = slug == ""
    if slug:
        found = next((one for one in world.organizations.values() if one.slug == slug), None)
        if found is None:
            raise RefusedError(404, {"detail": f"{slug} organization does not exist."})
        request.organization = found
    elif "org_id" in request.query:
        request.organization = world.organizations.get(int(request.query["org_id"]))


def require_user(request: Request) -> User:
    if request.user is None:
        raise RefusedError(401, {"detail": "Authentication credentials were not provided."})
    if request.read_only and request.method not in ("GET", "HEAD", "OPTIONS"):
        raise RefusedError(403, FORBIDDEN)
    return request.user


def is_staff(world: World, user: User, thing: Task | Project) -> bool:
    """Owner or assignee of the thing or of its project, maintainer of its organization, or administrator."""
    if user.is_admin or user in (thing.owner, thing.assignee):
        return True
    if thing.organization and thing.organization.members.get(user.id) in ("owner", "maintainer"):
        return True
    project = world.projects.get(thing.project_id or 0) if isinstance(thing, Task) else None
    return project is not None and user in (project.owner, project.assignee)


def require_staff(world: World, request: Request, thing: Task | Project) -> None:
    if not is_staff(world, require_user(request), thing):
        raise RefusedError(403, FORBIDDEN)


def require_job(world: World, request: Request, job: Job) -> None:
    user = require_user(request)
    if user is not job.assignee and not is_staff(world, user, job.task):
        raise RefusedError(403, FORBIDDEN)


def in_context(request: Request, thing: Task | Project) -> bool:
    """Whether a list made in the request's organization shows the thing; without one, all is mixed."""
    if request.personal:
        return thing.organization is None
    return request.organization is None or thing.organization is request.organization


def basic(request: Request, user: User | None) -> dict[str, Any] | None:
    if user is None:
        return None
    url = f"{request.base}/api/users/{user.id}"
    return {"url": url, "id": user.id, "username": user.username, "first_name": "", "last_name": ""}


def full(request: Request, user: User) -> dict[str, Any]:
    return {
        **(basic(request, user) or {}),
        "email": f"{user.username}@example.com",
        "groups": ["admin" if user.is_admin else "user"],
        "is_staff": user.is_admin,
        "is_superuser": user.is_admin,
        "is_active": True,
        "last_login": None,
        "date_joined": "2026-01-01T00:00:00Z",
        "has_analytics_access": user.is_admin,
    }


def routes(world: World, table: Routes) -> None:
    @table.on("POST", "/auth/login")
    def login(request: Request) -> Response:
        asked = request.json()
        user = world.user_named(asked.get("username", ""))
        if user is None or user.password != asked.get("password"):
            raise RefusedError(400, {"non_field_errors": ["Unable to log in with provided credentials."]})
        session = secrets.token_hex(16)
        world.sessions[session] = user
        cookies = f"sessionid={session}; Path=/\ncsrftoken={secrets.token_hex(16)}; Path=/"
        return Response(body={"key": secrets.token_hex(20)}, headers={"Set-Cookie": cookies})

    @table.on("POST", "/auth/logout")
    def logout(request: Request) -> Response:
        world.sessions = {key: user for key, user in world.sessions.items() if user is not request.user}
        return Response(body={"detail": "Successfully logged out."})

    @table.on("POST", "/auth/register")
    def register(request: Request) -> Response:
        asked = request.json()
        if world.user_named(asked["username"]):
            raise RefusedError(400, {"username": ["A user with that username already exists."]})
        user = world.add_user(asked["username"], asked["password1"])
        body = {**asked, "email_verification_required": False, "key": secrets.token_hex(20)}
        body.pop("password1"), body.pop("password2", None)
        return Response(201, {**body, "first_name": "", "last_name": "", "username": user.username})

    @table.on("POST", "/auth/access_tokens")
    def make_token(request: Request) -> Response:
        user = require_user(request)
        asked = request.json()
        token = world.add_token(user, read_only=asked.get("read_only", True))
        date = "2026-01-01T00:00:00Z"
        return Response(
            201,
            {
                "id": len(world.tokens),
                "name": asked["name"],
                "created_date": date,
                "updated_date": date,
                "expiry_date": asked.get("expiry_date"),
                "last_used_date": None,
                "read_only": token.read_only,
                "owner": basic(request, user),
                "value": token.value,
            },
        )

    @table.on("GET", "/users/self")
    def myself(request: Request) -> Response:
        return Response(body=full(request, require_user(request)))

    @table.on("GET", "/users")
    def users(request: Request) -> Response:
        from cvat_double.http import page

        require_user(request)
        wanted = request.query.get("search", "")
        rows = [basic(request, user) for user in reversed(world.users.values()) if wanted in user.username]
        return page(request, rows)
