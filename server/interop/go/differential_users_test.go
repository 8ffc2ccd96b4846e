package interop

import (
	"go.etcd.io/etcd/api/v3/authpb"
	"go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/protobuf/proto"
)

func (g *generator) userName() string {
	if g.seldom(20) {
		return one(g, "", "nobody at all", "\x00")
	}
	return one(g, "root", "root", "u", "v", "w")
}

func (g *generator) roleName() string {
	if g.seldom(20) {
		return one(g, "", "no role")
	}
	return one(g, "root", "r", "s", "t")
}

// permitted is an interval that can be permitted, the same for the same key: of two with one beginning, etcd may not find
// the second again (a row of docs/compat.md).
func (g *generator) permitted() ([]byte, []byte) {
	key := g.key()
	if _, known := g.ends[string(key)]; !known {
		g.ends[string(key)] = g.end(key)
	}
	return key, g.ends[string(key)]
}

func (g *generator) permission() *authpb.Permission {
	if g.seldom(20) {
		return nil
	}
	key, end := g.permitted()
	permission := &authpb.Permission{PermType: authpb.Permission_Type(g.IntN(3)), Key: key, RangeEnd: end}
	if g.seldom(40) {
		permission.PermType = 3
	}
	return permission
}

// enableUsers makes users and roles, and mostly enables authentication.
func (g *generator) enableUsers() []step {
	g.auth = true
	if g.seldom(4) {
		return nil
	}
	var steps []step
	for _, role := range []string{"root", "r", "s"} {
		steps = append(steps, g.authCall("RoleAdd", &etcdserverpb.AuthRoleAddRequest{Name: role}, &etcdserverpb.AuthRoleAddResponse{}))
		if role != "root" {
			for range 3 {
				steps = append(steps, g.authCall("RoleGrantPermission", &etcdserverpb.AuthRoleGrantPermissionRequest{Name: role, Perm: g.permission()}, &etcdserverpb.AuthRoleGrantPermissionResponse{}))
			}
		}
	}
	for _, user := range []string{"root", "u", "v"} {
		steps = append(steps, g.authCall("UserAdd", &etcdserverpb.AuthUserAddRequest{Name: user, Password: "p"}, &etcdserverpb.AuthUserAddResponse{}))
		steps = append(steps, g.authCall("UserGrantRole", &etcdserverpb.AuthUserGrantRoleRequest{User: user, Role: map[string]string{"root": "root", "u": "r", "v": "s"}[user]}, &etcdserverpb.AuthUserGrantRoleResponse{}))
	}
	steps = append(steps, g.authCall("AuthEnable", &etcdserverpb.AuthEnableRequest{}, &etcdserverpb.AuthEnableResponse{}))
	for _, user := range []string{"root", "u", "v"} {
		steps = append(steps, g.authenticateAs(user, "p"))
	}
	return steps
}

// users asks about users and roles, and everything else as one of them.
func (g *generator) users() step {
	g.user = ""
	switch choice := g.IntN(20); {
	case choice < 10:
		g.user = "root"
	case choice < 16:
		g.user = one(g, "u", "v", "w")
	case choice < 17:
		g.user = one(g, "this is no token", "abcdefghijklmnop.3", "abcdefghijklmnop.x")
	}
	defer func() { g.user = "" }()
	choice := g.IntN(100)
	if g.user != "root" && choice < 30 && !g.seldom(3) {
		choice += 55 // what only root may is mostly asked by root
	}
	switch {
	case choice < 4:
		return g.authCall("AuthEnable", &etcdserverpb.AuthEnableRequest{}, &etcdserverpb.AuthEnableResponse{})
	case choice < 5:
		return g.authCall("AuthDisable", &etcdserverpb.AuthDisableRequest{}, &etcdserverpb.AuthDisableResponse{})
	case choice < 10:
		request := &etcdserverpb.AuthUserAddRequest{Name: g.userName(), Password: one(g, "p", "p", "q", "")}
		if g.seldom(5) {
			request.Options = &authpb.UserAddOptions{NoPassword: g.seldom(2)}
		}
		return g.authCall("UserAdd", request, &etcdserverpb.AuthUserAddResponse{})
	case choice < 12:
		return g.authCall("UserDelete", &etcdserverpb.AuthUserDeleteRequest{Name: g.userName()}, &etcdserverpb.AuthUserDeleteResponse{})
	case choice < 14:
		return g.authCall("UserChangePassword", &etcdserverpb.AuthUserChangePasswordRequest{Name: g.userName(), Password: one(g, "p", "q", "")}, &etcdserverpb.AuthUserChangePasswordResponse{})
	case choice < 20:
		return g.authCall("UserGrantRole", &etcdserverpb.AuthUserGrantRoleRequest{User: g.userName(), Role: g.roleName()}, &etcdserverpb.AuthUserGrantRoleResponse{})
	case choice < 22:
		return g.authCall("UserRevokeRole", &etcdserverpb.AuthUserRevokeRoleRequest{Name: g.userName(), Role: g.roleName()}, &etcdserverpb.AuthUserRevokeRoleResponse{})
	case choice < 26:
		return g.authCall("RoleAdd", &etcdserverpb.AuthRoleAddRequest{Name: g.roleName()}, &etcdserverpb.AuthRoleAddResponse{})
	case choice < 27:
		return g.authCall("RoleDelete", &etcdserverpb.AuthRoleDeleteRequest{Role: g.roleName()}, &etcdserverpb.AuthRoleDeleteResponse{})
	case choice < 34:
		return g.authCall("RoleGrantPermission", &etcdserverpb.AuthRoleGrantPermissionRequest{Name: g.roleName(), Perm: g.permission()}, &etcdserverpb.AuthRoleGrantPermissionResponse{})
	case choice < 36:
		key, end := g.permitted()
		return g.authCall("RoleRevokePermission", &etcdserverpb.AuthRoleRevokePermissionRequest{Role: g.roleName(), Key: key, RangeEnd: end}, &etcdserverpb.AuthRoleRevokePermissionResponse{})
	case choice < 39:
		return g.authCall("UserGet", &etcdserverpb.AuthUserGetRequest{Name: g.userName()}, &etcdserverpb.AuthUserGetResponse{})
	case choice < 42:
		return g.authCall("RoleGet", &etcdserverpb.AuthRoleGetRequest{Role: g.roleName()}, &etcdserverpb.AuthRoleGetResponse{})
	case choice < 43:
		return g.authCall("UserList", &etcdserverpb.AuthUserListRequest{}, &etcdserverpb.AuthUserListResponse{})
	case choice < 44:
		return g.authCall("RoleList", &etcdserverpb.AuthRoleListRequest{}, &etcdserverpb.AuthRoleListResponse{})
	case choice < 47:
		return g.authCall("AuthStatus", &etcdserverpb.AuthStatusRequest{}, &etcdserverpb.AuthStatusResponse{})
	case choice < 57:
		return g.authenticate()
	case choice < 60:
		return g.maintenanceStep()
	case choice < 64:
		return g.memberStep()
	case choice < 72:
		return g.leaseStep()
	default:
		return g.kv()
	}
}

// authCall calls a method of Auth. Requests are the same each time, responses are not.
func (g *generator) authCall(method string, request, response proto.Message) step {
	return unary("/etcdserverpb.Auth/"+method, g.user, func(*talk) proto.Message { return request },
		func() proto.Message { return proto.Clone(response) }, nil)
}

// authenticate gets a token, with which its user asks from then on.
func (g *generator) authenticate() step {
	return g.authenticateAs(g.userName(), one(g, "p", "p", "p", "q", ""))
}

func (g *generator) authenticateAs(user, password string) step {
	request := &etcdserverpb.AuthenticateRequest{Name: user, Password: password}
	return unary("/etcdserverpb.Auth/Authenticate", g.user, func(*talk) proto.Message { return request },
		func() proto.Message { return &etcdserverpb.AuthenticateResponse{} },
		func(s *talk, answer proto.Message) {
			token := answer.(*etcdserverpb.AuthenticateResponse).Token
			s.tokens[request.Name] = token
			s.names.token(token, request.Name)
		})
}
