/** What an nginx that routes to the service `app` needs to be told, for tests and measurements. */
export const ROUTER_SITE = `include /etc/nginx/slipway/*.conf;
server_tokens off;
proxy_http_version 1.1;
proxy_set_header Connection "";
# An idle visitor's connection outlives a reload: closed just as its next request comes, that one would be lost.
keepalive_min_timeout 10s;
server { listen 80; access_log off; location / { proxy_pass http://app; } }
`;
