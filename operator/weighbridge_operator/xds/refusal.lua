
-- Refusals, in OpenAI's error shape.

local function quoted(text)
  return '"' .. gsub(text, '[%c"\\\127-\255]', function(c) return string.format("\\u%04x", byte(c)) end) .. '"'
end

local function refuse(handle, status, message, param, code)
  local body = '{"error":{"message":' .. quoted(message) .. ',"type":"invalid_request_error","param":'
    .. (param and quoted(param) or "null") .. ',"code":' .. quoted(code) .. "}}"
  handle:respond({ [":status"] = status, ["content-type"] = "application/json" }, body)
end

local function refuse_json(handle, wrong, key)
  key = key and sub(key, 1, 64)
  if wrong == "twice" then
    refuse(handle, "400", "The key " .. key .. " stands twice in the body; send it once.", key, "duplicate_key")
  elseif wrong == "escaped" then
    refuse(handle, "400", "Write the names of the outermost keys without escapes.", nil, "escaped_key")
  elseif wrong == "deep" then
    refuse(handle, "400", "The body is nested more than " .. DEPTH .. " deep.", nil, "invalid_json")
  else
    refuse(handle, "400", "The body must be one JSON object in UTF-8.", nil, "invalid_json")
  end
end

local function refuse_form(handle, wrong, name)
  if wrong == "twice" then
    refuse(handle, "400", "The field " .. name .. " stands twice in the form; send it once.", name, "duplicate_key")
  elseif wrong == "field" then
    refuse(handle, "400", "Send the fields model and stream as plain text, by these names.", name, "invalid_form")
  else
    local message = "The form must be plain multipart/form-data: lines end with CRLF, nothing stands outside of its parts."
    refuse(handle, "400", message, nil, "invalid_form")
  end
end
