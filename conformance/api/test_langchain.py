"""LangChain's standard tests of chat models, with its OpenAI client."""

import pytest

pytest.importorskip("langchain_tests", reason="run by `run all`")
from langchain_openai import ChatOpenAI
from langchain_tests.integration_tests import ChatModelIntegrationTests

# Calls have the right form, but babble in it: these want a certain number, word or decision.
CLEVER = pytest.mark.xfail(reason="wants a model that understands", strict=True)


class TestFrugal(ChatModelIntegrationTests):
    """All that are standard; what the interface lacks is said in properties."""

    @pytest.fixture(autouse=True)
    def where(self, server):
        type(self).base_url = server.v1

    @property
    def chat_model_class(self):
        return ChatOpenAI

    @property
    def supports_json_mode(self):
        return True

    @property
    def supports_model_override(self):
        return True

    @property
    def model_override_value(self):
        return "gpt-6-astra"

    @property
    def chat_model_params(self):
        return {
            "model": "tiny", "base_url": self.base_url, "api_key": "none", "max_retries": 0, "seed": 1,
            "max_tokens": 800, "stream_usage": True, "extra_body": {"thinking": {"type": "disabled"}},
        }

    test_tool_calling = CLEVER(ChatModelIntegrationTests.test_tool_calling)
    test_tool_calling_async = CLEVER(ChatModelIntegrationTests.test_tool_calling_async)
    test_agent_loop = CLEVER(ChatModelIntegrationTests.test_agent_loop)
    test_json_mode = CLEVER(ChatModelIntegrationTests.test_json_mode)
    test_unicode_tool_call_integration = CLEVER(ChatModelIntegrationTests.test_unicode_tool_call_integration)
