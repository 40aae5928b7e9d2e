# Runs one test function of one file: the host's conftest starts this, once a test, and passes fixture
# values by stdin. The last line tells the host that the function really returned: an interpreter that dies
# with exit code 0 is a failure.
import json
import sys

path, function = sys.argv[1:3]
arguments = json.loads(sys.stdin.read())
module = __import__(path)
getattr(module, function)(**arguments)
print('{"passed": "%s"}' % function)
