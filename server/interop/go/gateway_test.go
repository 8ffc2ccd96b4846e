package interop

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
)

// bare is JSON without white space, the header of the cluster, and the older forms of errors.
func bare(t *testing.T, text []byte) string {
	t.Helper()
	var value map[string]any
	if err := json.Unmarshal(text, &value); err != nil {
		t.Fatalf("%s: %v", text, err)
	}
	inner := value
	if result, ok := value["result"].(map[string]any); ok {
		inner = result
	}
	delete(inner, "header")
	delete(value, "error")
	out, err := json.Marshal(value)
	check(t, err)
	return string(out)
}

// post asks the gateway, and gives status and body.
func post(t *testing.T, s *server, path, body string) (int, []byte) {
	t.Helper()
	answer, err := http.Post("http://"+s.endpoint+path, "application/json", strings.NewReader(body))
	check(t, err)
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	check(t, err)
	return answer.StatusCode, text
}

func TestTheGatewayAnswersAsEtcdDoes(t *testing.T) {
	both(t, func(t *testing.T, s *server) {
		for _, c := range []struct{ path, body, want string }{
			{"/v3/kv/range", `{"key":"Zm9v"}`, `200 {}`},
			{"/v3/kv/range", ``, `400 {"code":3,"message":"etcdserver: key is not provided"}`},
			{"/v3/kv/range", `{"key":"Zm9v","sortOrder":7}`, `400 {"code":3,"message":"etcdserver: invalid sort option"}`},
			{"/v3/kv/range", `{"key":"Zm9v","sort_order":"UP","nope":{"a":[1]}} trailing`, `200 {}`},
			{"/v3/kv/range", `{"key":"Zm9v","limit":1e2,"revision":null}`, `200 {}`},
			{"/v3/kv/range", `{"key":`, `400 {"code":3,"message":"unexpected EOF"}`},
			{"/v3/kv/rangex", `{}`, `404 {"code":5,"message":"Not Found"}`},
			{"/v3/kv/rangestream", `{}`, `404 {"code":5,"message":"Not Found"}`},
			{"/v3/kv/put", `{"key":"Zm8","value":"-_8"}`, `200 {}`},
			{"/v3/kv/put", `{"key":"Zm8=","lease":"99"}`, `404 {"code":5,"message":"etcdserver: requested lease not found"}`},
			{"/v3beta/kv/range", `{"key":"Zm8="}`, `200 {"count":"1","kvs":[{"create_revision":"2","key":"Zm8=","mod_revision":"2","value":"+/8=","version":"1"}]}`},
			{"/v3/kv/txn", `{"compare":[{"key":"Zm8=","target":"VERSION","version":"1"}],"success":[{"requestPut":{"key":"YQ==","prev_kv":true}},{"request_txn":{}}]}`,
				`200 {"responses":[{"response_put":{"header":{"revision":"3"}}},{"response_txn":{"header":{},"succeeded":true}}],"succeeded":true}`},
			{"/v3/kv/txn", `{"success":[{}]}`, `400 {"code":3,"message":"etcdserver: key not found"}`},
			{"/v3/kv/deleterange", `{"key":"Zm8=","prev_kv":true}`, `200 {"deleted":"1","prev_kvs":[{"create_revision":"2","key":"Zm8=","mod_revision":"2","value":"+/8=","version":"1"}]}`},
			{"/v3/kv/compaction", `{"revision":"99"}`, `400 {"code":11,"message":"etcdserver: mvcc: required revision is a future revision"}`},
			{"/v3/lease/grant", `{"TTL":"100","ID":77}`, `200 {"ID":"77","TTL":"100"}`},
			{"/v3/lease/leases", ``, `200 {"leases":[{"ID":"77"}]}`},
			{"/v3/kv/lease/timetolive", `{"ID":78}`, `200 {"ID":"78","TTL":"-1"}`},
			{"/v3/lease/keepalive", `{"ID":77}`, `200 {"result":{"ID":"77","TTL":"100"}}`},
			{"/v3/lease/keepalive", `{"ID":78}`, `200 {"result":{"ID":"78"}}`},
			{"/v3/kv/lease/revoke", `{"ID":77}`, `200 {}`},
			{"/v3/maintenance/alarm", `{"action":"ACTIVATE","memberID":"1","alarm":1}`, `200 {"alarms":[{"alarm":"NOSPACE","memberID":"1"}]}`},
			{"/v3/kv/put", `{"key":"Zm8="}`, `429 {"code":8,"message":"etcdserver: mvcc: database space exceeded"}`},
			{"/v3/maintenance/alarm", `{"action":"DEACTIVATE","memberID":"1","alarm":"NOSPACE"}`, `200 {"alarms":[{"alarm":"NOSPACE","memberID":"1"}]}`},
			{"/v3/auth/status", `{}`, `200 {"authRevision":"1"}`},
			{"/v3/auth/authenticate", `{"name":"root","password":"x"}`, `400 {"code":9,"message":"etcdserver: authentication is not enabled"}`},
			{"/v3/election/leader", `{"name":"eA=="}`, `500 {"code":2,"message":"election: no leader"}`},
			{"/v3/lock/unlock", `{"key":"eA=="}`, `200 {}`},
		} {
			code, text := post(t, s, c.path, c.body)
			if got := fmt.Sprintf("%d %s", code, bare(t, text)); got != c.want {
				t.Errorf("%s %s:\n got %s\nwant %s", c.path, c.body, got, c.want)
			}
		}
	})
}

func TestTheGatewaysWatchIsLines(t *testing.T) {
	both(t, func(t *testing.T, s *server) {
		_, err := s.client(t).Put(within(t), "a", "1")
		check(t, err)
		body := `{"create_request":{"key":"YQ==","start_revision":"1"}} {"create_request":{"key":"Yg==","watch_id":"7"}}`
		request, err := http.NewRequestWithContext(
			within(t), "POST", "http://"+s.endpoint+"/v3/watch", bytes.NewBufferString(body))
		check(t, err)
		answer, err := http.DefaultClient.Do(request)
		check(t, err)
		defer answer.Body.Close()
		lines := bufio.NewScanner(answer.Body)
		found := map[string]bool{}
		for range 3 {
			if !lines.Scan() {
				t.Fatal(lines.Err())
			}
			found[bare(t, lines.Bytes())] = true
		}
		for _, want := range []string{
			`{"result":{"created":true}}`,
			`{"result":{"created":true,"watch_id":"7"}}`,
			`{"result":{"events":[{"kv":{"create_revision":"2","key":"YQ==","mod_revision":"2","value":"MQ==","version":"1"}}]}}`,
		} {
			if !found[want] {
				t.Errorf("%s is missing in %v", want, found)
			}
		}
		// The body has ended, the watch has not.
		_, err = s.client(t).Delete(within(t), "a")
		check(t, err)
		if !lines.Scan() {
			t.Fatal(lines.Err())
		}
		want := `{"result":{"events":[{"kv":{"key":"YQ==","mod_revision":"3"},"type":"DELETE"}]}}`
		equal(t, "the deletion", bare(t, lines.Bytes()), want)
	})
}
