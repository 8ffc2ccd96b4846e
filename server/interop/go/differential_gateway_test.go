package interop

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"regexp"
	"strings"

	"go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
)

// A form is how a message is written as JSON.
type form struct {
	names   protojson.MarshalOptions
	more    string // fields that no message has
	beta    bool
	trailer string
}

// gatewayPaths are the paths of methods.
var gatewayPaths = map[string]string{
	"KV/Range": "kv/range", "KV/Put": "kv/put", "KV/DeleteRange": "kv/deleterange", "KV/Txn": "kv/txn", "KV/Compact": "kv/compaction",
	"Lease/LeaseGrant": "lease/grant", "Lease/LeaseRevoke": "kv/lease/revoke", "Lease/LeaseTimeToLive": "lease/timetolive",
	"Maintenance/Alarm": "maintenance/alarm", "Maintenance/Status": "maintenance/status", "Maintenance/HashKV": "maintenance/hashkv",
	"Auth/UserAdd": "auth/user/add", "Auth/UserGet": "auth/user/get", "Auth/UserList": "auth/user/list", "Auth/UserGrantRole": "auth/user/grant",
	"Auth/RoleAdd": "auth/role/add", "Auth/RoleGet": "auth/role/get", "Auth/RoleGrantPermission": "auth/role/grant", "Auth/AuthStatus": "auth/status",
	"Auth/Authenticate": "auth/authenticate", "Auth/AuthEnable": "auth/enable",
}

// gateway asks in JSON.
func (g *generator) gateway() step {
	if g.seldom(4) {
		return g.oddBody()
	}
	written := &form{names: protojson.MarshalOptions{
		UseProtoNames: g.seldom(2), UseEnumNumbers: g.seldom(2), EmitUnpopulated: g.seldom(4),
	}, beta: g.seldom(20)}
	if g.seldom(6) {
		written.more = one(g, `"nope":1`, `"nope":{"a":[1,{}]}`, `"Nope":null`)
	}
	if g.seldom(20) {
		written.trailer = one(g, " ", "\n", "x", "{}", "}")
	}
	var asked step
	switch choice := g.IntN(20); {
	case choice < 5:
		asked = g.put()
	case choice < 7:
		asked = g.delete()
	case choice < 11:
		asked = g.read()
	case choice < 14:
		asked = g.txn()
	case choice < 15:
		asked = g.compact()
	case choice < 16:
		asked = g.grantOf(g.leaseID(), 600)
	case choice < 17:
		asked = g.hashKV()
	case choice < 18:
		asked = g.authCall("RoleAdd", &etcdserverpb.AuthRoleAddRequest{Name: g.roleName()}, &etcdserverpb.AuthRoleAddResponse{})
	case choice < 19:
		asked = g.authCall("RoleGrantPermission", &etcdserverpb.AuthRoleGrantPermissionRequest{Name: g.roleName(), Perm: g.permission()}, &etcdserverpb.AuthRoleGrantPermissionResponse{})
	default:
		asked = g.authCall("RoleGet", &etcdserverpb.AuthRoleGetRequest{Role: g.roleName()}, &etcdserverpb.AuthRoleGetResponse{})
	}
	return func(s *talk) exchange {
		s.gateway = written
		defer func() { s.gateway = nil }()
		return asked(s)
	}
}

// unaryInJSON is a call of a method over the gateway.
func (s *talk) unaryInJSON(method, user string, asked, answer proto.Message, learn func(*talk, proto.Message)) exchange {
	body, err := s.gateway.names.Marshal(asked)
	if err != nil { // text that is no UTF-8
		return exchange{"no JSON", "no JSON"}
	}
	text := string(body)
	if more := s.gateway.more; more != "" {
		if text == "{}" {
			more += "}"
		} else {
			more += ","
		}
		text = "{" + more + strings.TrimPrefix(text[1:], "}")
	}
	path := gatewayPaths[method[strings.Index(method, ".")+1:]]
	version := "v3"
	if s.gateway.beta {
		version = "v3beta"
	}
	asking, code, found := s.post("/"+version+"/"+path, text+s.gateway.trailer)
	_, said, _ := strings.Cut(found, " ")
	if code == http.StatusOK && protojson.Unmarshal([]byte(said), answer) == nil {
		s.noteRevision(answer)
		if learn != nil {
			learn(s, answer)
		}
	}
	return exchange{asking, s.names.mask(fmt.Sprintf("%d %s", code, bareJSON(found)))}
}

// post asks, and gives what was asked as well.
func (s *talk) post(path, body string) (question string, code int, found string) {
	question = path + " " + s.names.mask(body)
	answer, err := s.web.Post("http://"+s.endpoint+path, "application/json", strings.NewReader(body))
	if err != nil {
		return question, 0, err.Error()
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	if err != nil {
		return question, 0, err.Error()
	}
	return question, answer.StatusCode, answer.Header.Get("Content-Type") + " " + string(text)
}

var (
	raftTerms  = regexp.MustCompile(`"raft_term":"\d+"`)
	drawnIDs   = regexp.MustCompile(`"ID":"\d{12,}"`)
	jsonErrors = regexp.MustCompile(`"message":"(proto:|invalid character|unexpected EOF|unexpected end|illegal base64|json:|syntax error|.*JSON).*"`)
)

// bareJSON is an answer without white space, the term, and what docs/compat.md says about bodies of refusals: of those
// only code and message count, and of messages about JSON only that they are such.
func bareJSON(text string) string {
	kind, body, _ := strings.Cut(text, " ")
	var compact bytes.Buffer
	if json.Compact(&compact, []byte(body)) != nil {
		return text
	}
	body = raftTerms.ReplaceAllString(compact.String(), `"raft_term":"…"`)
	var refusal struct {
		Code    *int              `json:"code"`
		Message string            `json:"message"`
		Details []json.RawMessage `json:"details"`
	}
	if json.Unmarshal([]byte(body), &refusal) == nil && refusal.Code != nil {
		if jsonErrors.MatchString(fmt.Sprintf(`"message":"%s"`, refusal.Message)) || strings.Contains(refusal.Message, "JSON") {
			refusal.Message = "about JSON"
		}
		body = fmt.Sprintf("code %d: %s %s", *refusal.Code, refusal.Message, refusal.Details)
	}
	return kind + " " + body
}

// oddBody asks with a body that no client would write.
func (g *generator) oddBody() step {
	path := one(g, "/v3/kv/range", "/v3/kv/put", "/v3/kv/deleterange", "/v3/kv/txn", "/v3/kv/compaction", "/v3/lease/grant", "/v3/auth/role/grant", "/v3/maintenance/alarm")
	body := one(g,
		``, `{}`, `[]`, `null`, `1`, `"a"`, `{`, `{"key"`, `{"key":}`, `{"key":"YQ=="`, `{"key":"YQ==",}`, `{"key":"YQ==","key":"Yg=="}`, `{'key':'YQ=='}`,
		`{"key":"not base64!"}`, `{"key":"YQ"}`, `{"key":"_-8="}`, `{"key":"+/8="}`, `{"key":"YQ==","limit":"5"}`, `{"key":"YQ==","limit":5.0}`,
		`{"key":"YQ==","limit":5.5}`, `{"key":"YQ==","limit":1e2}`, `{"key":"YQ==","limit":"1e2"}`, `{"key":"YQ==","limit":"x"}`, `{"key":"YQ==","limit":true}`, `{"key":"YQ==","limit":9223372036854775808}`,
		`{"key":"YQ==","limit":" 5"}`, `{"key":"YQ==","limit":-1}`, `{"key":"YQ==","limit":""}`,
		`{"key":1}`, `{"key":["YQ=="]}`, `{"key":null}`, `{"key":"YQ==","serializable":"true"}`, `{"key":"YQ==","serializable":1}`, `{"key":"YQ==","serializable":true}`,
		`{"key":"YQ==","sort_order":"ASCEND"}`, `{"key":"YQ==","sort_order":"ascend"}`, `{"key":"YQ==","sort_order":1}`, `{"key":"YQ==","sort_order":"1"}`, `{"key":"YQ==","sort_order":1.5}`,
		`{"key":"YQ==","sort_order":99}`, `{"key":"YQ==","sortTarget":"VALUE","sortOrder":"DESCEND"}`, `{"key":"YQ==","lease":"0x1"}`, `{"key":"YQ==","value":"IA==","lease":"1"}`,
		`{"revision":"1"}`, `{"TTL":"100","ID":"5"}`, `{"TTL":100,"ID":6}`, `{"ttl":100}`, `{"TTL":"a"}`, `{"compare":[{}]}`, `{"compare":{}}`, `{"success":[null]}`, `{"success":[{}]}`,
		`{"success":[{"request_put":null}]}`, `{"success":[{"requestPut":{"key":"YQ==","value":"YQ=="}}]}`, `{"success":[{"request_range":{"key":"YQ=="}},{"request_txn":{"success":[]}}]}`,
		`{"compare":[{"key":"YQ==","target":"MOD","mod_revision":"0"}],"failure":[{"request_range":{"key":"YQ=="}}]}`, `{"compare":[{"key":"YQ==","target":9,"result":"GREATER"}]}`,
		`{"name":"r","perm":{"permType":"READWRITE","key":"YQ=="}}`, `{"name":"r","perm":{"permType":5}}`, `{"name":"r\u0000"}`, "{\"name\":\"\xff\"}", `{"action":"GET"}`, `{"action":"ACTIVATE","memberID":1}`,
		"\xef\xbb\xbf{}", `{"a":`+strings.Repeat("[", 200)+strings.Repeat("]", 200)+`}`, `/**/{}`, `{"key":"YQ==","@type":"x"}`, `{"key":"YQ==","":1}`, `{"key":"Y\u0051=="}`, `{"key":"YQ==","limit":01}`, `{"key":"YQ==","limit":+1}`, `{"key":"YQ==","limit":NaN}`, `{"key":"YQ==","limit":"NaN"}`,
	)
	return func(s *talk) exchange {
		question, code, found := s.post(path, body)
		if path == "/v3/kv/compaction" && code == http.StatusOK {
			s.compactions[0], s.compactions[1] = true, true // no body asks for another revision
		}
		found = drawnIDs.ReplaceAllString(found, `"ID":"…"`)
		return exchange{question, s.names.mask(fmt.Sprintf("%d %s", code, bareJSON(found)))}
	}
}
