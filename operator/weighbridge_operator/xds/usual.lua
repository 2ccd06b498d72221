
-- The entrance of usual requests, in the place of the one before. The route of their address has looked at their head
-- already, which costs next to nothing there: POST, of application/json, neither encoded nor come through a gateway.
function envoy_on_request(handle)
  local asked, text = read_body(handle, USUAL)
  if asked then go_by_body(handle, USUAL, asked, text) end
end
